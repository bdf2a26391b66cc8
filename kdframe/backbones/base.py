"""The contract of students and teachers: one pass, one Output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdframe.backbones.preactivations import Tap, find_taps, keep_input_of, taken_from


class Output(NamedTuple):
    """A network's answer to a batch of B images, in K classes."""

    logits: Tensor  # (B, K)
    embedding: Tensor  # (B, C), pooled, just before the classifier
    features: list[Tensor]  # (B, C_i, H_i, W_i) of each stage i, shallow to deep; 0 is the stem

    def maps(self, stages: tuple[int, ...] = ()) -> list[Tensor]:
        """The features of these stages; ``()`` is every stage but the stem, -1 the last."""
        return [self.features[i] for i in resolve(stages, len(self.features))]


class Backbone(nn.Module):
    """A network that answers with an :class:`Output`.

    Args:
        network: the layers; their names are the names in a file of weights.
        answer: ``answer(network, image) -> Output``, one forward pass.
        input_size: (channels, height, width) of the images that it is probed with.
        pretrained: returns published weights for ``network``, where there are some.
        classifier: the name in ``network`` of the layer from embedding to logits; empty where
            there is no single one.
        foreign: gives the tensors of a public file, named otherwise, their names in ``network``.
    """

    def __init__(
        self,
        network: nn.Module,
        answer: Callable[[nn.Module, Tensor], Output],
        input_size: tuple[int, int, int] = (3, 32, 32),
        pretrained: Callable[[], Mapping[str, Tensor]] | None = None,
        classifier: str = "",
        foreign: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.answer = answer
        self.input_size = input_size
        self.pretrained = pretrained
        self.foreign = foreign
        self._classifier = classifier
        self._taps: list[Tap] = []
        self._probed: tuple[tuple[int, int, int], Output] | None = None

    def forward(self, image: Tensor) -> Output:
        return self.answer(self.network, image)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of every stage for an image of ``input_size``, by a forward pass."""
        return [(f.shape[1], f.shape[2], f.shape[3]) for f in self.probe().features]

    @property
    def num_classes(self) -> int:
        return self.probe().logits.shape[1]

    @property
    def embedding_size(self) -> int:
        return self.probe().embedding.shape[1]

    @property
    def classifier(self) -> nn.Module:
        """The layer from embedding to logits.

        Raises:
            ValueError: no single layer is.
        """
        if not self._classifier:
            raise ValueError("this network has no single layer from its embedding to its logits")
        return self.network.get_submodule(self._classifier)

    def stages_of(self, stages: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Stage numbers from 0; ``()`` is every stage but the stem, -1 the last.

        Raises:
            ValueError: a stage that this network doesn't have.
        """
        return resolve(stages, len(self.shapes))

    def channels_of(self, stages: tuple[int, ...] = ()) -> list[int]:
        """C_i of these stages (ValueError as in ``stages_of``)."""
        return [self.shapes[i][0] for i in self.stages_of(stages)]

    def probe(self) -> Output:
        """The answer to one black image, in eval mode, kept until ``input_size`` changes."""
        if self._probed is None or self._probed[0] != self.input_size:
            with self.looked_at():
                output = self(next(self.parameters()).new_zeros(1, *self.input_size))
            self._probed = (self.input_size, output)
        return self._probed[1]

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """In eval mode and without gradients; every layer's own mode comes back."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    @property
    def taps(self) -> list[Tap]:
        """What ends each stage: its activation, and the normalisation before that.

        From the first look on, every forward pass keeps the maps before the activations.

        Raises:
            ValueError: an activation that isn't a module of its own.
        """
        if not self._taps:
            noise = torch.Generator().manual_seed(0)
            weight = next(self.parameters())
            image = torch.randn(1, *self.input_size, generator=noise).to(weight)
            with self.looked_at():
                self._taps = find_taps(self.network, lambda: self(image).features)
            for tap in self._taps:
                if tap.activation is not None:
                    keep_input_of(tap.activation)
        return self._taps

    def before_activation(self, output: Output) -> Output:
        """``output`` of the last forward pass, with the maps before activation as features."""
        features = list(output.features)
        for i, (activation, _) in enumerate(self._taps):
            if activation is not None:
                features[i] = taken_from(activation)
        return output._replace(features=features)


def resolve(stages: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Stage numbers of a network with ``count`` of them; see ``Backbone.stages_of``."""
    wrong = [i for i in stages if not -count <= i < count]
    if wrong:
        raise ValueError(f"no stage {wrong}: this network has 0 to {count - 1}")
    return tuple(i % count for i in stages) or tuple(range(1, count))
