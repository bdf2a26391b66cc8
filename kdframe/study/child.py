"""One run of a study in a process of its own: ``python -m kdframe.study.child ORDER``.

ORDER is JSON.  What happens is told as lines of JSON to a pipe; the end of another pipe says that
the study's process is gone, and the run stops as by SIGTERM, with its checkpoint.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kdframe import config, exit_codes, parallel, run
from kdframe.hooks import Hook
from kdframe.signals import Signals
from kdframe.trainer import Trainer

TELL_EVERY = 0.5  # seconds


class Told(Hook):
    """Tells the study's process how far the run is, and what validation says."""

    def __init__(self, pipe: int) -> None:
        self.pipe, self.told = os.fdopen(pipe, "w", buffering=1), 0.0

    def tell(self, trainer: Trainer, **facts: Any) -> None:
        self.told = time.monotonic()
        line = {"step": trainer.step, "steps": trainer.steps, "epoch": trainer.epoch, **facts}
        try:
            print(json.dumps({**line, "epochs": trainer.epochs}), file=self.pipe)
        except BrokenPipeError:  # nobody listens any more: the other pipe stops the run
            self.told = float("inf")

    def before_train(self, trainer: Trainer) -> None:
        for row in trainer.history:  # what was said before the run was broken off
            self.tell(trainer, after=int(row["epoch"]), metrics=row)
        self.tell(trainer)

    def after_step(self, trainer: Trainer) -> None:
        if time.monotonic() - self.told > TELL_EVERY:
            self.tell(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        self.tell(trainer, after=trainer.epoch, metrics=trainer.metrics)

    def after_train(self, trainer: Trainer) -> None:
        self.tell(trainer)


def main() -> None:
    """Trains what the order says; a finished run only answers again."""
    order = json.loads(sys.argv[1])
    logger = logging.getLogger("kdframe")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.NullHandler())  # log.txt has it all
    sys.argv = order["command"]  # run.json says how the same is trained without a study
    whole = config.load(order["file"], order["words"])
    for key in order["at"]:
        whole = whole.recipes[key]
    if whole.digest() != order["digest"]:
        raise whole.error("SEED", "its config changed since the study was planned.")
    for warning in whole.warnings:
        logger.warning("warning: %s", warning)
    with Signals() as signals:
        threading.Thread(target=stop_with, args=(order["alive"],), daemon=True).start()
        run.train(
            whole,
            Path(order["folder"]),
            resume=True,
            wait=True,
            asked=signals.asked,
            hooks=[Told(order["events"])],
            test=order["test"],
        )
    parallel.finish()


def stop_with(pipe: int) -> None:
    """Waits for the study's process to end, and ends this one."""
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv[2:]))
