"""Where a network's stages end in an activation: found by one forward pass, kept from then on."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class Tap(NamedTuple):
    """What ends a stage."""

    activation: nn.Module | None  # its input is the pre-activation map; None: the feature is
    norm: nn.Module | None  # the normalisation before it


class Call(NamedTuple):
    """A layer's part in a forward pass; the tensors stay, so no address comes twice."""

    turn: int  # of its beginning: a norm may call its activation itself
    module: nn.Module
    given: Tensor
    found: Tensor

    @property
    def norms(self) -> bool:
        """Whether the layer is a normalisation."""
        return isinstance(self.module, NORMS)

    @property
    def activates(self) -> bool:
        """Whether it is an activation: no weights (but PReLU's), one shape, other values."""
        if self.given.shape != self.found.shape or any(self.module.children()):
            return False
        if not isinstance(self.module, nn.PReLU) and any(True for _ in self.module.parameters()):
            return False
        noise = torch.randn(self.given.shape, generator=torch.Generator().manual_seed(0))
        noise = noise.to(self.given)
        return not torch.equal(self.module(noise.clone()), noise)

    def takes(self, tensor: Tensor) -> bool:
        """Whether that is what the layer was given."""
        return self.given.data_ptr() == tensor.data_ptr()

    def makes(self, tensor: Tensor) -> bool:
        """Whether that is what the layer answered, or wrote over."""
        return self.found.data_ptr() == tensor.data_ptr()


def find_taps(network: nn.Module, features: Callable[[], list[Tensor]]) -> list[Tap]:
    """The tap of every stage of a network in eval mode; ``features`` runs it.

    Raises:
        ValueError: a stage ends in an activation that is no module, or that is called again.
    """
    calls: list[Call] = []
    turns = itertools.count()
    begun: dict[nn.Module, int] = {}

    def note_turn(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        begun[module] = next(turns)

    def note_call(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        turn = begun.pop(module)
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls.append(Call(turn, module, inputs[0], output))

    layers = [m for m in network.modules() if isinstance(m, NORMS) or not any(m.children())]
    hooks = [layer.register_forward_pre_hook(note_turn) for layer in layers]
    hooks += [layer.register_forward_hook(note_call) for layer in layers]
    try:
        stages = features()
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        calls.sort(key=lambda call: call.turn)
        return [tap_of(i, feature, calls) for i, feature in enumerate(stages)]


def tap_of(stage: int, feature: Tensor, calls: list[Call]) -> Tap:
    """The tap of one stage.

    It ends in the activation whose output it is (ResNet), or is normalised and activated where
    the next stage begins (pre-activation ResNet); else (MobileNetV2's linear bottleneck, a
    transformer's block) the feature itself is the pre-activation map.
    """
    made = [i for i, call in enumerate(calls) if call.makes(feature) and call.activates]
    if made:
        before = [call for call in calls[: made[-1]] if call.norms]
        added_to = [
            call for call in before if calls[made[-1]].takes(call.found)
        ]  # not a shortcut's
        return Tap(last_call(stage, calls, made[-1]), last_norm(added_to or before))
    taken = [i for i, call in enumerate(calls) if call.takes(feature)]
    norms = [calls[i] for i in taken if calls[i].norms]
    if norms:
        inner = set(norms[0].module.modules())
        after = (
            i
            for i, call in enumerate(calls)
            if (call.module in inner or call.takes(norms[0].found)) and call.activates
        )
        if (i := next(after, None)) is not None:
            return Tap(last_call(stage, calls, i), norms[0].module)
    if (feature >= 0).all():
        raise ValueError(
            f"stage {stage} ends in an activation that is no module of its own: the map before "
            "it can't be taken"
        )
    return Tap(None, last_norm(calls[: taken[0]] if taken else calls))


def last_norm(calls: list[Call]) -> nn.Module | None:
    """The last normalisation of these calls."""
    norms = [call.module for call in calls if call.norms]
    return norms[-1] if norms else None


def last_call(stage: int, calls: list[Call], i: int) -> nn.Module:
    """The layer of a call that must be its last: what it keeps is the last thing it was given."""
    layer = calls[i].module
    if any(call.module is layer for call in calls[i + 1 :]):
        raise ValueError(
            f"stage {stage} ends in an activation that is called again after it: the map before "
            "it can't be kept"
        )
    return layer


def keep_input_of(activation: Any) -> None:
    """From now on the layer keeps what it is given, until ``taken_from``."""
    activation.inplace = False  # or it would write over that
    activation.register_forward_pre_hook(keep_input)


def keep_input(activation: Any, inputs: tuple[Tensor, ...]) -> None:
    """A forward pre-hook; a plain function survives deepcopy and torch.compile."""
    activation.kept = inputs[0]


def taken_from(activation: Any) -> Tensor:
    """What the layer was last given; it keeps it no longer."""
    kept: Tensor = activation.kept
    activation.kept = None
    return kept
