"""The papers' ResNets: He, Zhang, Ren and Sun 2016, arXiv:1512.03385, section 4.2.

A 3x3 stem and three stages of (depth - 2)/6 basic blocks, 16, 32 and 64 wide, as ``cifar_resnet``
makes them.  Those ending in x4 are CRD's: a stem of 32, and stages 64, 128 and 256 wide.  Features
are the stem's map and the stages', each after its ReLU.  Shortcuts that change the size are a 1x1
convolution with BatchNorm (the paper's option B), and every BatchNorm starts with 1, as in the
distillation papers' code; ``cifar_resnet`` starts each block's last one with 0.

timm has them under the same names; there a fourth, empty stage repeats the third's map.
"""

from kdframe.backbones.base import Backbone
from kdframe.backbones.cifar_resnet import answer, make_network
from kdframe.backbones.papers import in_timm
from kdframe.registry import BACKBONES


@BACKBONES.register("resnet8")
@in_timm("resnet8")
def resnet8(num_classes: int) -> Backbone:
    """8 layers: the papers' ResNet for 32x32 images with 1 block a stage."""
    return resnet(num_classes, blocks=1)


@BACKBONES.register("resnet14")
@in_timm("resnet14")
def resnet14(num_classes: int) -> Backbone:
    """14 layers: the papers' ResNet for 32x32 images with 2 blocks a stage."""
    return resnet(num_classes, blocks=2)


@BACKBONES.register("resnet20")
@in_timm("resnet20")
def resnet20(num_classes: int) -> Backbone:
    """20 layers: the papers' ResNet for 32x32 images with 3 blocks a stage."""
    return resnet(num_classes, blocks=3)


@BACKBONES.register("resnet32")
@in_timm("resnet32")
def resnet32(num_classes: int) -> Backbone:
    """32 layers: the papers' ResNet for 32x32 images with 5 blocks a stage."""
    return resnet(num_classes, blocks=5)


@BACKBONES.register("resnet44")
@in_timm("resnet44")
def resnet44(num_classes: int) -> Backbone:
    """44 layers: the papers' ResNet for 32x32 images with 7 blocks a stage."""
    return resnet(num_classes, blocks=7)


@BACKBONES.register("resnet56")
@in_timm("resnet56")
def resnet56(num_classes: int) -> Backbone:
    """56 layers: the papers' ResNet for 32x32 images with 9 blocks a stage."""
    return resnet(num_classes, blocks=9)


@BACKBONES.register("resnet110")
@in_timm("resnet110")
def resnet110(num_classes: int) -> Backbone:
    """110 layers: the papers' ResNet for 32x32 images with 18 blocks a stage."""
    return resnet(num_classes, blocks=18)


@BACKBONES.register("resnet8x4")
@in_timm("resnet8x4")
def resnet8x4(num_classes: int) -> Backbone:
    """8 layers: the papers' ResNet for 32x32 images, stages four times as wide."""
    return resnet(num_classes, blocks=1, width=64, stem=32)


@BACKBONES.register("resnet32x4")
@in_timm("resnet32x4")
def resnet32x4(num_classes: int) -> Backbone:
    """32 layers: the papers' ResNet for 32x32 images, stages four times as wide."""
    return resnet(num_classes, blocks=5, width=64, stem=32)


def resnet(num_classes: int, blocks: int, width: int = 16, stem: int = 16) -> Backbone:
    """Its tensors' names are those of the papers' public files."""
    network = make_network(num_classes, blocks, width, stem, zero_init_last=False)
    return Backbone(network, answer, classifier="fc")
