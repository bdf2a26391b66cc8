"""Stages in a row, the mean of the last map, a linear layer: the form of the small networks."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from kdframe.backbones.base import Output


class Staged(nn.Module):
    """A classifier that can be read as timm's networks are.

    Args:
        stages: the stem, and what follows; each one's output is a feature.
        width: of the embedding.
        num_classes: of the linear layer ``fc``.
        last: layers between the last stage and the mean.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        width: int,
        num_classes: int,
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.last = last or nn.Identity()
        self.fc = nn.Linear(width, num_classes)
        self.num_features, self.num_classes = width, num_classes

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The map whose mean is the embedding."""
        for stage in self.stages:
            x = stage(x)
        found: Tensor = self.last(x)
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The logits of that map, or the embedding."""
        embedding = x.mean((2, 3))
        return embedding if pre_logits else self.fc(embedding)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """That map and the stages' outputs, as in timm; there is no last norm to apply."""
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt takes NCHW, not {output_fmt}.")
        count = len(self.stages)
        if indices is None or isinstance(indices, int):
            indices = range(count - (indices or count), count)
        wanted = {i % count for i in indices}
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in wanted:
                features.append(x)
            if stop_early and i == max(wanted):
                break
        return features if intermediates_only else (self.last(x), features)


def answer(network: Any, image: Tensor) -> Output:
    """One pass."""
    final, features = network.forward_intermediates(image)
    embedding = network.forward_head(final, pre_logits=True)
    return Output(network.fc(embedding), embedding, features)


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    relu: bool = True,
) -> nn.Sequential:
    """A convolution that keeps the size (divided by ``stride``), BatchNorm, and a ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *[nn.ReLU()] * relu)


def draw_as_published(network: nn.Module) -> None:
    """Weights of vgg and mobilenetv2 at the start: sqrt(2 / (k k C_out)), the classifier's .01."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
