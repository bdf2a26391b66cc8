"""Where the time of kdframe's loop goes: phases that add up to all of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.clock import Work
from kdframe.trainer import Trainer

PHASES = ("data", "teacher", "student forward", "terms", "backward", "optimizer", "rest")


class Phases:
    """Stamps around the calls that make up a step: the device's own, or this process's CPU time.

    ``shares`` are fractions of the whole; what lies in no phase is "rest".
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stamps: list[tuple[str, Any, Any]] = []

    def stamp(self) -> Any:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        return time.process_time()

    def between(self, start: Any, end: Any) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return float(start.elapsed_time(end)) / 1000
        return float(end - start)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = self.stamp()
        yield
        self.stamps.append((name, start, self.stamp()))

    def timed(self, name: str | Callable[..., str], call: Callable[..., Any]) -> Any:
        """``call`` with a stamp before and after; ``name`` may depend on its arguments."""

        def stamped(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name if isinstance(name, str) else name(*args)):
                return call(*args, **kwargs)

        return stamped

    def pulled(self, call: Callable[..., Iterator[Any]]) -> Any:
        """The same for a generator: the time is that of its turns."""

        def stamped(*args: Any, **kwargs: Any) -> Iterator[Any]:
            batches = call(*args, **kwargs)
            while True:
                with self.phase("data"):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

        return stamped

    def shares(self, trainer: Trainer, work: Work) -> dict[str, float]:
        """Of one ``work``, which runs ``trainer``."""
        model = trainer.model
        changes: list[tuple[Any, str, Any]] = [
            (trainer.train_loader, "train", self.pulled(trainer.train_loader.train)),
            (model, "values", self.timed("terms", model.values)),
            (Tensor, "backward", self.timed("backward", Tensor.backward)),
            (trainer.optimizer, "step", self.timed("optimizer", trainer.optimizer.step)),
            (model, "ask", self.timed(lambda network, *_: whose(trainer, network), model.ask)),
        ]
        self.stamps = []
        with ExitStack() as stack:
            for target, name, change in changes:
                stack.enter_context(patch.object(target, name, change))
            start = self.stamp()
            work()
            whole = self.between(start, self.stamp())
        spent = dict.fromkeys(PHASES, 0.0)
        for name, begun, ended in self.stamps:
            spent[name] += self.between(begun, ended) / whole
        spent["rest"] = 1 - sum(spent.values())
        return spent


def whose(trainer: Trainer, network: Any) -> str:
    """The phase of a forward pass."""
    return "student forward" if network is trainer.model.student else "teacher"
