"""Wide ResNets: Zagoruyko and Komodakis 2016, arXiv:1605.07146, WRN-depth-width, no dropout.

A 3x3 stem 16 wide and three stages of (depth - 4)/6 pre-activation blocks of two 3x3 convolutions,
16, 32 and 64 times ``width`` wide.  A block that changes its channels takes both its branches from
the activated input, and its shortcut is a bare 1x1 convolution: timm's PreActBasic.  Features are
the stem's map and the blocks' sums, not yet normalised and activated, as CRD's and mdistiller's
code hand them out; so they have negative values.
"""

import functools
from typing import Any

from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from kdframe.backbones.base import Backbone, Output
from kdframe.backbones.papers import Rules, in_timm, renamed
from kdframe.registry import BACKBONES

PUBLIC_NAMES: Rules = (
    (r"^conv1\.", "stem.conv."),
    (r"^block1\.layer\.", "stages.0.blocks."),
    (r"^block2\.layer\.", "stages.1.blocks."),
    (r"^block3\.layer\.", "stages.2.blocks."),
    (r"\.convShortcut\.", ".downsample.conv."),
    (r"\.bn([12])\.", r".norm\1."),
    (r"^bn1\.", "norm."),
    (r"^fc\.", "head.fc."),
)


@BACKBONES.register("wrn_16_1")
@in_timm("wrn_16_1", classifier="head.fc")
def wrn_16_1(num_classes: int) -> Backbone:
    """The Wide ResNet of 16 layers and width 1, for 32x32 images."""
    return wrn(num_classes, depth=16, width=1)


@BACKBONES.register("wrn_16_2")
@in_timm("wrn_16_2", classifier="head.fc")
def wrn_16_2(num_classes: int) -> Backbone:
    """The Wide ResNet of 16 layers and width 2, for 32x32 images."""
    return wrn(num_classes, depth=16, width=2)


@BACKBONES.register("wrn_40_1")
@in_timm("wrn_40_1", classifier="head.fc")
def wrn_40_1(num_classes: int) -> Backbone:
    """The Wide ResNet of 40 layers and width 1, for 32x32 images."""
    return wrn(num_classes, depth=40, width=1)


@BACKBONES.register("wrn_40_2")
@in_timm("wrn_40_2", classifier="head.fc")
def wrn_40_2(num_classes: int) -> Backbone:
    """The Wide ResNet of 40 layers and width 2, for 32x32 images."""
    return wrn(num_classes, depth=40, width=2)


def wrn(num_classes: int, depth: int, width: int) -> Backbone:
    """The layers are timm's, with a stem and a classifier of another form."""
    network = ResNetV2(
        layers=((depth - 4) // 6,) * 3,
        channels=(16 * width, 32 * width, 64 * width),
        num_classes=num_classes,
        stem_chs=16,
        basic=True,
        bottle_ratio=1.0,
        norm_layer=BatchNormAct2d,
        conv_layer=create_conv2d,
    )
    network.stem.conv = nn.Conv2d(3, 16, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.stem.conv.weight, mode="fan_out", nonlinearity="relu")
    network.stem.pool = nn.Identity()
    network.head = ClassifierHead(64 * width, num_classes)  # linear: timm's is a 1x1 convolution
    nn.init.zeros_(network.head.fc.bias)
    foreign = functools.partial(renamed, PUBLIC_NAMES)
    return Backbone(network, answer, classifier="head.fc", foreign=foreign)


def answer(network: Any, image: Tensor) -> Output:
    """One pass."""
    final, features = network.forward_intermediates(image)
    embedding = network.forward_head(final, pre_logits=True)
    return Output(network.head.fc(embedding), embedding, features)
