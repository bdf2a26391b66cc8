import kdframe.backbones.cifar_resnet  # 2016, ResNets for 32x32 images, of any depth and width
import kdframe.backbones.mobilenetv2  # 2018, the papers' half of it
import kdframe.backbones.resnet  # 2016, the papers' ResNets by name
import kdframe.backbones.shufflenetv1  # 2018
import kdframe.backbones.shufflenetv2  # 2018
import kdframe.backbones.timm  # every network of the library
import kdframe.backbones.vgg  # 2015, the papers' VGGs, without the layers of 4096
import kdframe.backbones.wrn  # 2016, Wide ResNets
from kdframe.backbones.base import Backbone, Output
from kdframe.backbones.folding import Fold, fold_if_same, folded

__all__ = ["Backbone", "Fold", "Output", "fold_if_same", "folded"]
