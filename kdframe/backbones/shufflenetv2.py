"""ShuffleNet V2: Ma, Zhang, Zheng and Sun 2018, arXiv:1807.11164, 1x, as CRD (1910.10699) has it.

Three stages of 4, 8 and 4 units, 116, 232 and 464 wide, and a 1x1 convolution of 1024, whose map's
mean is the embedding.  Departs from the paper for 32x32 images in the stem, a 1x1 convolution of 24
without stride or pooling.  Features are the stem's map and the stages', each after its ReLU; at
32x32 they are 32, 16, 8 and 4 high.  A unit's last ReLU comes behind the shuffle instead of before:
the same map, and the map before the ReLU has the feature's own order of channels.
"""

import functools

import torch
from torch import Tensor, nn

from kdframe.backbones.base import Backbone
from kdframe.backbones.papers import Rules, in_timm, renamed
from kdframe.backbones.staged import Staged, answer, convolution
from kdframe.registry import BACKBONES

PUBLIC_NAMES: Rules = (
    (r"^conv1\.", "stages.0.0."),
    (r"^bn1\.", "stages.0.1."),
    (r"^conv2\.", "last.0."),
    (r"^bn2\.", "last.1."),
    (r"^linear\.", "fc."),
    (r"^layer(\d)\.", r"stages.\1."),
    # a stage's first unit numbers the convolutions of both its branches, the others those of one
    (r"\.0\.(conv|bn)1\.", r".0.left.0.\1."),
    (r"\.0\.(conv|bn)2\.", r".0.left.1.\1."),
    (r"\.0\.(conv|bn)3\.", r".0.right.0.\1."),
    (r"\.0\.(conv|bn)4\.", r".0.right.1.\1."),
    (r"\.0\.(conv|bn)5\.", r".0.right.2.\1."),
    (r"\.(conv|bn)1\.", r".right.0.\1."),
    (r"\.(conv|bn)2\.", r".right.1.\1."),
    (r"\.(conv|bn)3\.", r".right.2.\1."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
)


@BACKBONES.register("shufflenetv2")
@in_timm("shufflenetv2")
def shufflenetv2(num_classes: int) -> Backbone:
    """The distillation papers' ShuffleNet V2 for 32x32 images, of width 1x."""
    channels = 24
    stages = [convolution(3, channels)]
    for width, units in ((116, 4), (232, 8), (464, 4)):
        stages.append(nn.Sequential(Halving(channels, width), *map(Unit, [width] * (units - 1))))
        channels = width
    network = Staged(stages, 1024, num_classes, last=convolution(channels, 1024))
    foreign = functools.partial(renamed, PUBLIC_NAMES)
    return Backbone(network, answer, classifier="fc", foreign=foreign)


class Unit(nn.Module):
    """Half of the channels pass, half are convolved; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.right = branch(half, half)
        self.shuffle = nn.ChannelShuffle(2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        both = self.shuffle(torch.cat((left, self.right(right)), dim=1))
        active: Tensor = self.act(both)  # what passed is not below 0, and stays what it is
        return active


class Halving(nn.Module):
    """Convolves all channels twice, with stride 2, to half of the width each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            convolution(inputs, inputs, 3, stride=2, groups=inputs, relu=False),
            convolution(inputs, outputs // 2, relu=False),
        )
        self.right = branch(inputs, outputs // 2, stride=2)
        self.shuffle = nn.ChannelShuffle(2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        active: Tensor = self.act(self.shuffle(torch.cat((self.left(x), self.right(x)), dim=1)))
        return active


def branch(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """1x1, 3x3 of every channel for itself, 1x1; the last ReLU is the unit's."""
    return nn.Sequential(
        convolution(inputs, outputs),
        convolution(outputs, outputs, 3, stride=stride, groups=outputs, relu=False),
        convolution(outputs, outputs, relu=False),
    )
