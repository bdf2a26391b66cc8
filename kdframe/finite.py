"""Whether a training's numbers are finite: known before they reach a weight that is kept."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from kdframe.plan import Diverged

EVERY = 50  # steps between looks where a look waits for the device
LEAST_SCALE = (
    1e-4  # of fp16's loss, which halves whenever a gradient isn't finite; it began at 2^16
)


class Watch:
    """Sees on the device whether a step's loss and gradient are finite; says so in ``check``.

    On a CPU, where a look costs nothing, every step is checked before its update.  Elsewhere it
    is every 50th: from the first bad step on, torch's fused optimizers make no more updates, as
    for a GradScaler (``found_inf``), and of the others' weights none is saved without a check.

    Under fp16 a gradient that isn't finite is a scale too high: the scaler leaves out the step and
    lowers it.  It has diverged where that doesn't end.

    Args:
        model: whose gradients are watched.
        optimizer: its steps are left out from a bad one on, where it can do that.
        scaler: of fp16, or disabled.
        every: steps between checks; 0: as the device has it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        device: torch.device,
        every: int = 0,
    ) -> None:
        self.every = every or (1 if device.type == "cpu" else EVERY)
        self.scaler, self.named = scaler, dict(model.named_parameters())
        self.bad = torch.zeros((), device=device)  # 1 from the first bad step on
        self.good = torch.zeros((), device=device)  # steps before it, since ``begun``
        self.begun = -1
        if not scaler.is_enabled() and getattr(optimizer, "_step_supports_amp_scaling", False):
            held: Any = optimizer
            held.found_inf, held.grad_scale = self.bad, None

    def clip(self, optimizer: torch.optim.Optimizer, most: float) -> Tensor | None:
        """The norm of the gradient, lowered to ``most`` (0: left); None if fp16 scales it."""
        if self.scaler.is_enabled() and not most:
            return None
        self.scaler.unscale_(optimizer)
        known = [p.grad for p in self.named.values() if p.grad is not None]
        norm = get_total_norm(known)
        if most:
            clip_grads_with_norm_(self.named.values(), most, norm)
        return None if self.scaler.is_enabled() else norm

    def see(self, step: int, loss: Tensor, norm: Tensor | None) -> None:
        """Takes a step's loss and gradient norm into account, without waiting for the device."""
        self.begun = step if self.begun < 0 else self.begun
        fine = loss.isfinite() if norm is None else loss.isfinite() & norm.isfinite()
        self.bad.copy_(torch.maximum(self.bad, (~fine).float()))
        self.good += 1 - self.bad

    def check(self, step: int, sums: Mapping[str, Tensor]) -> None:
        """Waits for the device; ``sums`` are the terms' over the epoch so far.

        Raises:
            Diverged: with the first bad step and what wasn't finite in it.
        """
        if self.bad:
            terms = [name for name, value in sums.items() if not value.isfinite()]
            names = [name for name in terms if name != "loss"] or ["the weighted sum"]
            if not terms:
                names = [self.bad_gradient()]
            at = self.begun + int(self.good)
            raise Diverged(f"diverged at step {at}: {', '.join(names)} isn't finite.")
        if self.scaler.is_enabled() and (scale := self.scaler.get_scale()) < LEAST_SCALE:
            raise Diverged(
                f"diverged by step {step}: no gradient is finite, and fp16's loss scale has "
                f"fallen to {scale:.1g}."
            )
        self.good.zero_()
        self.begun = -1

    def bad_gradient(self) -> str:
        """Whose it is, while the step's gradients are there."""
        found = {name: p.grad for name, p in self.named.items() if p.grad is not None}
        name = next(not_finite(found), "")
        return f"the gradient of {name}" if name else "the gradient"


def not_finite(tree: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """The names of the tensors in a tree of dicts that aren't finite; waits once a dict."""
    floats = {k: v for k, v in tree.items() if isinstance(v, Tensor) and v.is_floating_point()}
    if floats:
        fine = torch.stack([value.isfinite().all().cpu() for value in floats.values()])
        yield from (f"{at}{name}" for name, ok in zip(floats, fine.tolist(), strict=True) if not ok)
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield from not_finite(inner, f"{at}{name}.")


def refuse(tree: Mapping[str, Any], step: int) -> None:
    """For what is about to be kept: weights, statistics and an optimizer's state.

    Raises:
        Diverged: a tensor in ``tree`` isn't finite.
    """
    if name := next(not_finite(tree), ""):
        raise Diverged(f"diverged by step {step}: a weight isn't finite, {name}.")
