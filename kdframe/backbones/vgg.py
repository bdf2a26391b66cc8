"""VGG for 32x32 images: Simonyan and Zisserman 2015, arXiv:1409.1556, as CRD (1910.10699) has it.

Five blocks of 3x3 convolutions with bias, each with BatchNorm and ReLU, 64, 128, 256, 512 and 512
wide; vgg8 has one a block.  Departs from the paper in the BatchNorm, and in what follows the last
block: no pooling and no layers of 4096, but the mean of its map and one linear layer.  Features are
the five blocks' maps after their ReLU, before the 2x2 max pooling with which the next one begins;
the first block counts as the stem.  The last block doesn't pool a map below 8x8: at 32x32 the
features are 32, 16, 8, 4 and 4 high.  (CRD's code pools there for images of 64 alone.)

Here ``vgg13`` is this one.  timm's, with the paper's head, is ``NAME: timm, MODEL: vgg13``, and in
timm these are ``cifar_vgg13`` and so on.
"""

import functools

from torch import Tensor, nn

from kdframe.backbones.base import Backbone
from kdframe.backbones.papers import Rules, in_timm, renamed
from kdframe.backbones.staged import Staged, answer, convolution, draw_as_published
from kdframe.registry import BACKBONES

WIDTHS = (64, 128, 256, 512, 512)
PUBLIC_NAMES: Rules = (
    (r"^block(\d)\.", r"stages.\1.1."),
    (r"^classifier\.", "fc."),
)


@BACKBONES.register("vgg8")
@in_timm("cifar_vgg8")
def vgg8(num_classes: int) -> Backbone:
    """The distillation papers' VGG for 32x32 images, with one convolution a block."""
    return vgg(num_classes, (1, 1, 1, 1, 1))


@BACKBONES.register("vgg11")
@in_timm("cifar_vgg11")
def vgg11(num_classes: int) -> Backbone:
    """The distillation papers' VGG-11 for 32x32 images; timm's is NAME: timm, MODEL: vgg11."""
    return vgg(num_classes, (1, 1, 2, 2, 2))


@BACKBONES.register("vgg13")
@in_timm("cifar_vgg13")
def vgg13(num_classes: int) -> Backbone:
    """The distillation papers' VGG-13 for 32x32 images; timm's is NAME: timm, MODEL: vgg13."""
    return vgg(num_classes, (2, 2, 2, 2, 2))


@BACKBONES.register("vgg16")
@in_timm("cifar_vgg16")
def vgg16(num_classes: int) -> Backbone:
    """The distillation papers' VGG-16 for 32x32 images; timm's is NAME: timm, MODEL: vgg16."""
    return vgg(num_classes, (2, 2, 3, 3, 3))


@BACKBONES.register("vgg19")
@in_timm("cifar_vgg19")
def vgg19(num_classes: int) -> Backbone:
    """The distillation papers' VGG-19 for 32x32 images; timm's is NAME: timm, MODEL: vgg19."""
    return vgg(num_classes, (2, 2, 4, 4, 4))


def vgg(num_classes: int, depths: tuple[int, ...]) -> Backbone:
    """``depths``: convolutions of each block."""
    pools = [nn.Identity(), *(nn.MaxPool2d(2) for _ in range(3)), PoolFrom8()]
    stages = []
    channels = 3
    for pool, width, depth in zip(pools, WIDTHS, depths, strict=True):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += convolution(channels, width, 3, bias=True)
            channels = width
        stages.append(nn.Sequential(pool, nn.Sequential(*layers)))
    network = Staged(stages, channels, num_classes)
    draw_as_published(network)
    foreign = functools.partial(renamed, PUBLIC_NAMES)
    return Backbone(network, answer, classifier="fc", foreign=foreign)


class PoolFrom8(nn.MaxPool2d):
    """2x2 max pooling of maps of 8x8 or more; smaller ones stay as they are."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if min(x.shape[-2:]) >= 8 else x
