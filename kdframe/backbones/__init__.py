import kdframe.backbones.cifar_resnet  # 2016, the papers' ResNets for 32x32 images
import kdframe.backbones.timm  # every network of the library
from kdframe.backbones.base import Backbone, Output

__all__ = ["Backbone", "Output"]
