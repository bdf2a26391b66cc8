"""Where the time until the first step went."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kdframe.hooks import Hook

if TYPE_CHECKING:
    from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")


class Startup(Hook):
    """Says in one line, after the first step that this process makes, how long each part took.

    The parts are in seconds of the wall clock.  "first step" is from the call for the first batch
    to the hooks after its step; what is compiled is compiled in it.  Recipes say theirs themselves.

    Args:
        imports: what it took to import torch and the parts; 0: not measured.
    """

    def __init__(self, imports: float = 0.0) -> None:
        self.seconds = {"imports": imports} if imports else {}
        self.begun = 0.0
        self.said = False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures a part."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun

    def before_train(self, trainer: Trainer) -> None:
        self.begun = time.perf_counter()

    def after_step(self, trainer: Trainer) -> None:
        if not self.said:
            self.said = True
            trainer.loss.item()  # waits for the device, this once
            self.seconds["first step"] = time.perf_counter() - self.begun
            took = {name: f"{value:.2f}" for name, value in self.seconds.items()}
            parts = [f"{name} {value}" for name, value in took.items() if value != "0.00"]
            log.info("start    %s s", ", ".join(parts))
