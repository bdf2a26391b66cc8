"""What the console shows of a training."""

from __future__ import annotations

import logging
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS

if TYPE_CHECKING:
    from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")

LOOK_EVERY = 0.5  # seconds; a look at the loss waits for the device


class Speed:
    """Images a second from one call to the next."""

    def __init__(self) -> None:
        self.images, self.time = 0, time.perf_counter()

    def since(self) -> float:
        """Seconds since the last call of ``to``."""
        return time.perf_counter() - self.time

    def to(self, images: int) -> float:
        """The speed at which the count went up to ``images`` since the last call."""
        speed = (images - self.images) / max(self.since(), 1e-9)
        self.images, self.time = images, time.perf_counter()
        return speed


@HOOKS.register("progress")
class ProgressBar(Hook):
    """A line an epoch, and on a terminal a bar with images/s, loss and time left.

    The images/s of a line are those of the whole epoch, with its evaluation and saving.
    """

    def __init__(self, output_dir: Path) -> None:
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        # a run that fails calls no after_train, and would leave a terminal without its cursor
        weakref.finalize(self, self.bar.stop)

    def before_train(self, trainer: Trainer) -> None:
        self.speed, self.epoch_speed = Speed(), Speed()
        self.task = self.bar.add_task(
            "",
            total=trainer.steps,
            completed=trainer.step,
            epoch=f"{trainer.epoch + 1}/{trainer.epochs}",
        )
        self.bar.start()

    def after_step(self, trainer: Trainer) -> None:
        if not self.bar.disable and self.speed.since() > LOOK_EVERY:
            speed = self.speed.to(trainer.images)
            self.bar.update(
                self.task,
                completed=trainer.step,
                epoch=f"{trainer.epoch + 1}/{trainer.epochs}",
                description=f"{speed:,.0f} images/s  loss {trainer.loss.item():.4g}",
            )

    def after_epoch(self, trainer: Trainer) -> None:
        parts = [
            f"epoch {trainer.epoch}/{trainer.epochs}",
            f"loss {trainer.metrics['train/loss']:.4g}",
            f"lr {trainer.lr:.2g}",
            f"{self.epoch_speed.to(trainer.images):,.0f} images/s",
        ]
        if "val/top1" in trainer.metrics:
            parts.insert(2, f"val {trainer.metrics['val/top1']:.2f} %")
        log.info("  ".join(parts))

    def after_train(self, trainer: Trainer) -> None:
        self.bar.update(self.task, completed=trainer.step)
        self.bar.stop()
