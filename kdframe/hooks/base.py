"""The contract of hooks: they look at a training and change nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdframe.trainer import Trainer


class Hook:
    """Called by the trainer at four moments; does nothing unless it says otherwise.

    A hook is built with the run's folder, ``part(output_dir, *, options)``, and only on the first
    process.  It may not change weights, gradients, the batch or a random generator: a test
    trains with and without all of them, in both orders, and compares to the bit.
    """

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a checkpoint keeps for it; none, unless it says so."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what a checkpoint kept, before ``before_train``."""

    def before_train(self, trainer: Trainer) -> None:
        """Before the first step of this process; ``trainer.step`` is above 0 on a resumed run."""

    def after_step(self, trainer: Trainer) -> None:
        """After the weights have moved; reading a loss here waits for the device."""

    def after_epoch(self, trainer: Trainer) -> None:
        """After evaluation on the validation split."""

    def after_train(self, trainer: Trainer) -> None:
        """After the last epoch; not called when the run is stopped before."""
