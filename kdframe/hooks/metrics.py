"""The numbers of a training as JSON lines."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS
from kdframe.writing import no_link

if TYPE_CHECKING:
    from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")


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
        self.offset: int | None = None  # up to which the file is a checkpoint's

    def state_dict(self) -> dict[str, Any]:
        """How long the file is, once that much of it is on the disk."""
        with open(self.path, "a", opener=no_link) as file:
            os.fsync(file.fileno())
            return {"offset": file.tell()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.offset = state["offset"]

    def before_train(self, trainer: Trainer) -> None:
        """Cuts off what this process will write again."""
        offset = self.length_at(trainer) if self.offset is None else self.offset
        with open(self.path, "ab", opener=no_link) as file:
            if (lost := offset - file.tell()) > 0:
                log.warning("%s has lost %d bytes since the checkpoint", self.path, lost)
            file.truncate(min(offset, file.tell()))

    def length_at(self, trainer: Trainer) -> int:
        """In bytes, of the lines up to a trainer's step: for a checkpoint that doesn't know."""
        length = 0
        for line in self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else ():
            try:
                row = json.loads(line)
                kept = row["step"] <= trainer.step and (
                    "loss" in row or row["epoch"] <= trainer.epoch
                )
            except (ValueError, KeyError, TypeError):  # half-written when the run died
                break
            if not kept or not line.endswith(b"\n"):
                break
            length += len(line)
        return length

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
        """A number that isn't finite is null: JSON has none."""
        sound = {name: x if math.isfinite(x) else None for name, x in row.items()}
        with open(self.path, "a", opener=no_link) as file:
            file.write(json.dumps(sound, allow_nan=False) + "\n")
