from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output

Maker = Callable[..., Backbone]


class Tiny(nn.Module):
    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, stride in zip((3, *widths), widths, strides, strict=False)
        )
        self.head = nn.Linear(widths[-1], num_classes)


def answer(network: Any, image: Tensor) -> Output:
    features = []
    for stage in network.stages:
        image = stage(image)
        features.append(image)
    embedding = image.mean((2, 3))
    return Output(network.head(embedding), embedding, features)


@pytest.fixture
def backbone() -> Maker:
    """Makes a Backbone of convolution, BatchNorm and ReLU a stage, probed with 3x8x8 images."""

    def make(
        widths: tuple[int, ...] = (2, 3, 4),
        strides: tuple[int, ...] = (1, 2, 2),
        num_classes: int = 5,
    ) -> Backbone:
        return Backbone(Tiny(widths, strides, num_classes), answer, (3, 8, 8), classifier="head")

    return make
