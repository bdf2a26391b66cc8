"""The numbers of a training as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS

if TYPE_CHECKING:
    from kdframe.trainer import Trainer


@HOOKS.register("metrics")
class Metrics(Hook):
    """Writes ``metrics.jsonl``: a line every ``period`` steps, and one after every epoch.

    A step's line has the loss, each term unweighted, and the learning rate; an epoch's has the
    means over the epoch and what validation says.  Nothing in it depends on the clock: a resumed
    run ends with the bytes of one that was never interrupted.
    """

    def __init__(self, output_dir: Path, *, period: int = 50) -> None:
        if period < 1:
            raise ValueError(f"period takes an int above 0, not {period}.")
        self.path = output_dir / "metrics.jsonl"
        self.period = period

    def before_train(self, trainer: Trainer) -> None:
        """Cuts off what this process will write again."""
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines(keepends=True):
                if not line.endswith("\n"):  # half-written when the run died
                    break
                row = json.loads(line)
                is_step = "loss" in row
                if row["step"] <= trainer.step if is_step else row["epoch"] <= trainer.epoch:
                    kept.append(line)
        whole = self.path.with_suffix(".part")
        whole.write_text("".join(kept))
        whole.replace(self.path)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step % self.period == 0:  # reading a loss waits for the device: not every step
            self.write(
                {
                    "step": trainer.step,
                    "epoch": trainer.step / trainer.steps_per_epoch,
                    "loss": trainer.loss.item(),
                    **{f"loss/{name}": term.item() for name, term in trainer.terms.items()},
                    "lr": trainer.lr,
                }
            )

    def after_epoch(self, trainer: Trainer) -> None:
        self.write({"step": trainer.step, "epoch": trainer.epoch, **trainer.metrics})

    def write(self, row: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
