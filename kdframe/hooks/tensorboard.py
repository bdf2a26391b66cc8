"""The curves of a training for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS

if TYPE_CHECKING:
    from kdframe.trainer import Trainer


@HOOKS.register("tensorboard")
class TensorBoard(Hook):
    """Writes ``events.out.tfevents.*``: loss and lr every ``period`` steps, val an epoch."""

    def __init__(self, output_dir: Path, *, period: int = 50) -> None:
        if period < 1:
            raise ValueError(f"period takes an int above 0, not {period}.")
        self.output_dir = output_dir
        self.period = period

    def before_train(self, trainer: Trainer) -> None:
        # TensorBoard hides what an interrupted run wrote from purge_step on
        self.writer = SummaryWriter(self.output_dir, purge_step=trainer.step + 1)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step % self.period == 0:  # reading a loss waits for the device: not every step
            terms = {f"loss/{name}": term.item() for name, term in trainer.terms.items()}
            self.write(trainer.step, {"loss": trainer.loss.item(), **terms, "lr": trainer.lr})

    def after_epoch(self, trainer: Trainer) -> None:
        val = {name: x for name, x in trainer.metrics.items() if name.startswith("val/")}
        self.write(trainer.step, val)
        self.writer.flush()

    def after_train(self, trainer: Trainer) -> None:
        self.writer.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
