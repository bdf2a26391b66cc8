import kdframe.datasets.cifar  # 2009, from its archives
import kdframe.datasets.glyphs  # drawn letters and digits: no file, no download
import kdframe.datasets.image_folder  # one's own, or ImageNet: a folder a class
import kdframe.datasets.torchvision  # the library's other classification sets
from kdframe.datasets.base import Batch, Dataset, InMemory

__all__ = ["Batch", "Dataset", "InMemory"]
