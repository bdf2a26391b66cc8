"""ResNets for 32x32 images: He, Zhang, Ren and Sun 2016, arXiv:1512.03385, section 4.2."""

from typing import Any

from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from kdframe.backbones.base import Backbone, Output
from kdframe.registry import BACKBONES


@BACKBONES.register("cifar_resnet")
def cifar_resnet(
    num_classes: int, *, depth: int = 20, width: int = 16, stem: int = 0, stride: int = 1
) -> Backbone:
    """A 3x3 stem and three stages of (depth - 2)/6 basic blocks, ``width``, 2x and 4x wide.

    ``stem`` is the stem's width, 0 the first stage's: distillation papers' resnet8x4 is depth 8,
    width 64, stem 32.  ``stride`` 2 halves the image in the stem, at a quarter of the cost.
    Departs from the paper as these do: a shortcut that changes its size is a 1x1 convolution with
    BatchNorm, not padding with zeros (option B, not A).

    Raises:
        ValueError: a depth that isn't 6n + 2, a width below 1, an odd stem, a stride above 2.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth takes 6n + 2 (8, 14, 20, 32, 44, 56, 110, ...), not {depth}.")
    stem = stem or width
    if width < 1 or stem < 2 or stem % 2:
        raise ValueError(f"width and stem take an even number above 0, not {width} and {stem}.")
    if stride not in (1, 2):
        raise ValueError(f"stride takes 1 or 2, not {stride}.")
    return Backbone(make_network(num_classes, blocks, width, stem, stride), answer, classifier="fc")


def make_network(
    num_classes: int,
    blocks: int,
    width: int,
    stem: int,
    stride: int = 1,
    zero_init_last: bool = True,
) -> ResNet:
    """The layers, timm's; ``zero_init_last`` starts every block as its shortcut alone."""
    network = ResNet(
        BasicBlock,
        layers=(blocks, blocks, blocks, 0),
        num_classes=num_classes,
        channels=(width, 2 * width, 4 * width, 4 * width),
        stem_type="deep",  # any other stem is 64 wide
        stem_width=stem // 2,
        zero_init_last=zero_init_last,
    )
    network.conv1 = nn.Conv2d(3, stem, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def answer(network: Any, image: Tensor) -> Output:
    """One pass; the fourth stage is empty and left out."""
    final, features = network.forward_intermediates(image)
    embedding = network.forward_head(final, pre_logits=True)
    return Output(network.fc(embedding), embedding, features[:-1])
