"""A picture of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS
from kdframe.reports import curves

if TYPE_CHECKING:
    from kdframe.trainer import Trainer


@HOOKS.register("curves")
class Curves(Hook):
    """Draws ``curves.png`` every ``period`` epochs and at the end."""

    def __init__(self, output_dir: Path, *, period: int = 10) -> None:
        if period < 1:
            raise ValueError(f"period takes an int above 0, not {period}.")
        self.path = output_dir / "curves.png"
        self.period = period

    def after_epoch(self, trainer: Trainer) -> None:
        if trainer.epoch % self.period == 0:
            curves.draw(trainer.history, self.path)

    def after_train(self, trainer: Trainer) -> None:
        curves.draw(trainer.history, self.path)
