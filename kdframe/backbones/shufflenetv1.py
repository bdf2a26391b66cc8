"""ShuffleNet: Zhang, Zhou, Lin and Sun 2018, arXiv:1707.01083, as CRD (1910.10699) has it.

Three stages of 4, 8 and 4 units, 240, 480 and 960 wide, in 3 groups.  Departs from the paper for
32x32 images in the stem, a 1x1 convolution of 24 without stride or pooling, and in a ReLU after
each unit's 3x3 convolution.  Features are the stem's map and the stages', each after its ReLU; at
32x32 they are 32, 16, 8 and 4 high.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones.base import Backbone
from kdframe.backbones.papers import Rules, in_timm, renamed
from kdframe.backbones.staged import Staged, answer, convolution
from kdframe.registry import BACKBONES

GROUPS = 3
PUBLIC_NAMES: Rules = (
    (r"^conv1\.", "stages.0.0."),
    (r"^bn1\.", "stages.0.1."),
    (r"^layer(\d)\.", r"stages.\1."),
    (r"\.conv(\d)\.", r".conv\1.0."),
    (r"\.bn(\d)\.", r".conv\1.1."),
    (r"^linear\.", "fc."),
)


@BACKBONES.register("shufflenetv1")
@in_timm("shufflenetv1")
def shufflenetv1(num_classes: int) -> Backbone:
    """The distillation papers' ShuffleNet for 32x32 images, with 3 groups."""
    channels = 24
    stages = [convolution(3, channels)]
    for width, units in ((240, 4), (480, 8), (960, 4)):
        first = Unit(channels, width, GROUPS if len(stages) > 1 else 1, stride=2)
        rest = (Unit(width, width, GROUPS) for _ in range(units - 1))
        stages.append(nn.Sequential(first, *rest))
        channels = width
    network = Staged(stages, channels, num_classes)
    foreign = functools.partial(renamed, PUBLIC_NAMES)
    return Backbone(network, answer, classifier="fc", foreign=foreign)


class Unit(nn.Module):
    """A grouped bottleneck beside its input: added, or with stride 2 next to its pooled input.

    ``groups`` are those of the first convolution; the last has always 3.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        made = outputs - inputs if stride == 2 else outputs
        narrow = made // 4
        self.stride = stride
        self.conv1 = convolution(inputs, narrow, groups=groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.conv2 = convolution(narrow, narrow, 3, stride=stride, groups=narrow)
        self.conv3 = convolution(narrow, made, groups=GROUPS, relu=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv3(self.conv2(self.shuffle(self.conv1(x))))
        if self.stride == 1:
            both = found + x
        else:
            both = torch.cat((found, F.avg_pool2d(x, 3, stride=2, padding=1)), dim=1)
        active: Tensor = self.act(both)
        return active
