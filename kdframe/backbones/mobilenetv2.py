"""MobileNetV2: Sandler et al. 2018, arXiv:1801.04381, half as wide, as CRD (1910.10699) has it.

Inverted residuals of expansion 6 between a 3x3 stem of stride 2 and a 1x1 convolution of 1280,
whose map's mean is the embedding.  Departs from the paper for 32x32 images: the second of the seven
groups has stride 1, every activation is ReLU instead of ReLU6, the first block has its 1x1
convolution too though it expands nothing, and there is no dropout.  Features are the stem's map and
those of groups 2, 3, 5 and 7, linear as blocks end; at 32x32 they are 16, 16, 8, 4 and 2 high.
"""

import functools

from torch import Tensor, nn

from kdframe.backbones.base import Backbone
from kdframe.backbones.papers import Rules, in_timm, renamed
from kdframe.backbones.staged import Staged, answer, convolution, draw_as_published
from kdframe.registry import BACKBONES

STAGES = (  # expansion, width, blocks and first stride of each group
    ((1, 8, 1, 1), (6, 12, 2, 1)),
    ((6, 16, 3, 2),),
    ((6, 32, 4, 2), (6, 48, 3, 1)),
    ((6, 80, 3, 2), (6, 160, 1, 1)),
)
PUBLIC_NAMES: Rules = (
    (r"^conv1\.", "stages.0."),
    (r"^blocks\.([01])\.", r"stages.1.\1."),
    (r"^blocks\.2\.", "stages.2.0."),
    (r"^blocks\.3\.", "stages.3.0."),
    (r"^blocks\.4\.", "stages.3.1."),
    (r"^blocks\.5\.", "stages.4.0."),
    (r"^blocks\.6\.", "stages.4.1."),
    (r"\.conv\.", ".layers."),
    (r"^conv2\.", "last."),
    (r"^classifier\.0\.", "fc."),
)


@BACKBONES.register("mobilenetv2")
@in_timm("mobilenetv2")
def mobilenetv2(num_classes: int) -> Backbone:
    """The distillation papers' MobileNetV2 for 32x32 images: half width, expansion 6."""
    channels = 16
    stages = [convolution(3, channels, 3, stride=2)]
    for groups in STAGES:
        stage = nn.Sequential()
        for expansion, width, blocks, first in groups:
            group = nn.Sequential()
            for stride in (first, *[1] * (blocks - 1)):
                group.append(InvertedResidual(channels, width, stride, expansion))
                channels = width
            stage.append(group)
        stages.append(stage)
    network = Staged(stages, 1280, num_classes, last=convolution(channels, 1280))
    draw_as_published(network)
    foreign = functools.partial(renamed, PUBLIC_NAMES)
    return Backbone(network, answer, classifier="fc", foreign=foreign)


class InvertedResidual(nn.Module):
    """Expands, convolves every channel for itself, narrows; added to its input where it can be."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * inputs
        self.layers = nn.Sequential(
            *convolution(inputs, wide),
            *convolution(wide, wide, 3, stride=stride, groups=wide),
            *convolution(wide, outputs, relu=False),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return x + found if self.adds else found
