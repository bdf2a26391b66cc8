"""The loop."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdframe import checkpoint, parallel
from kdframe.backbones import Backbone
from kdframe.datasets import Batch
from kdframe.distillation import Distillation
from kdframe.evaluation import evaluate
from kdframe.hooks import Hook
from kdframe.loading import Loader

log = logging.getLogger("kdframe")

CHECK_EVERY = 50  # steps between looks at the loss where a look waits for the device


class Diverged(RuntimeError):
    """A loss or a weight is no longer finite."""

    exit_code = 3


class Stopped(RuntimeError):
    """A signal asked the run to stop, and its checkpoint is written."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}; --resume goes on from here")
        self.exit_code = 128 + signal


@dataclass(frozen=True)
class Plan:
    """The numbers of a training.

    ``batch_size`` is images per optimizer step, over all processes and all ``accumulate`` parts.
    """

    epochs: int
    batch_size: int
    schedule: Callable[[float], float]  # the learning rate at a fraction of the training, 0..1
    seed: int = 0
    accumulate: int = 1
    clip_grad: float = 0.0  # 0: none
    ema: float = 0.0  # the decay of the averaged weights; 0: none
    precision: torch.dtype = torch.float32
    checkpoint_minutes: float = 10.0  # 0: after every epoch
    checkpoint_keep: int = 2
    config: str = ""  # the digest of the config, kept in checkpoints
    about: dict[str, Any] | None = None  # what a file of weights says about itself


class Trainer:
    """Trains a Distillation, and saves what is needed to go on at the very step.

    ``asked`` is polled once a step: 0, or the number of a signal (see ``kdframe.signals``).
    """

    def __init__(
        self,
        model: Distillation,
        train: Loader,
        val: Loader | None,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        output_dir: Path,
        hooks: Sequence[Hook] = (),
        asked: Callable[[], int] = lambda: 0,
    ) -> None:
        self.model, self.train_loader, self.val_loader = model, train, val
        self.optimizer, self.plan, self.output_dir = optimizer, plan, output_dir
        self.hooks, self.asked = hooks, asked
        self.device, self.batch_size = train.device, plan.batch_size
        self.epochs, self.steps_per_epoch = plan.epochs, train.steps(plan.batch_size)
        self.steps = self.epochs * self.steps_per_epoch
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=plan.precision == torch.float16
        )
        self.averaged = ModelEmaV3(model.student, decay=plan.ema) if plan.ema else None
        self.parallel: nn.Module = model
        if parallel.world() > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(model, ids, find_unused_parameters=True)
        self.step = 0
        self.lr = 0.0
        self.loss = torch.zeros((), device=self.device)
        self.terms: dict[str, Tensor] = {}
        self.sums = self.no_sums()
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []  # a dict an epoch
        self.best = -math.inf  # of val/top1
        self.seconds = 0.0  # of training and validation, over all processes that resumed the run
        self.images = 0  # since this process started
        self.saved_at = time.monotonic()
        self.saved_step = -1  # of the newest checkpoint that this process wrote or read

    @property
    def epoch(self) -> int:
        """Whole epochs that are trained and evaluated."""
        return len(self.history)

    @property
    def deployed(self) -> Backbone:
        """The network that is evaluated and saved: the student, or its average."""
        return self.averaged.module if self.averaged else self.model.student

    def train(self) -> None:
        """Runs the steps that are left.

        Raises:
            Diverged: with the term and the step.
            Stopped: by a signal, after a checkpoint.
        """
        started = time.monotonic() - self.seconds
        self.call("before_train")
        while True:
            self.seconds = time.monotonic() - started
            if self.epoch < self.step // self.steps_per_epoch:
                self.end_epoch()
            elif self.step < self.steps:
                self.train_epoch(started)
            else:
                break
        self.call("after_train")

    def train_epoch(self, started: float) -> None:
        self.model.train()
        first = self.step % self.steps_per_epoch
        for batch in self.train_loader.train(
            self.epoch, self.batch_size, first, parallel.rank(), parallel.world()
        ):
            self.train_step(batch)
            self.step += 1
            self.images += self.batch_size
            self.seconds = time.monotonic() - started
            self.call("after_step")
            self.answer_signals()
            if self.is_due():
                self.save()

    def train_step(self, batch: Batch) -> None:
        torch.manual_seed(seed_of(self.plan.seed, self.step, parallel.rank()))
        self.lr = self.plan.schedule(self.step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        total: dict[str, Tensor] = {}
        parts = list(split(batch, self.plan.accumulate))
        for part in parts:
            with self.unsynced() if part is not parts[-1] else nullcontext():
                loss, terms = self.parallel(part)
                self.scaler.scale(loss / len(parts)).backward()
            for name, value in {"loss": loss.detach(), **terms}.items():
                total[name] = total.get(name, 0) + value / len(parts)
        self.note(total)
        if self.plan.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update(self.model.student, step=self.step)

    def note(self, values: dict[str, Tensor]) -> None:
        """Keeps a step's values on the device, and looks at them when that costs nothing."""
        if parallel.world() > 1:
            mean = parallel.summed(torch.stack(list(values.values()))) / parallel.world()
            values = dict(zip(values, mean.unbind(), strict=True))
        for name, value in values.items():
            self.sums[name] += value
        self.sums["steps"] += 1
        self.loss = values.pop("loss")
        self.terms = values
        if self.device.type == "cpu" or self.step % CHECK_EVERY == 0:
            self.check_finite()

    def check_finite(self) -> None:
        bad = [name for name, value in self.sums.items() if not torch.isfinite(value)]
        if bad:
            names = [name for name in bad if name != "loss"] or ["the weighted sum"]
            raise Diverged(f"diverged at step {self.step}: {', '.join(names)} isn't finite.")

    def end_epoch(self) -> None:
        """Saves, for evaluation may fail; then evaluates and keeps the best."""
        self.answer_signals()
        self.check_finite()
        last = self.step == self.steps
        if last or (self.plan.checkpoint_minutes == 0 and self.saved_step != self.step):
            self.save()
        sums = {name: value.item() for name, value in self.sums.items()}
        steps = sums.pop("steps")
        on = {term.name for term in self.model.terms if term.was_on(self.epoch)} | {"loss"}
        self.metrics = {f"train/{name}": sums[name] / steps for name in sums if name in on}
        if self.val_loader is not None:
            val = self.evaluate(self.val_loader)
            self.metrics |= {f"val/{k}": val[k] for k in ("top1", "top5", "nll", "ece")}
            if val["top1"] > self.best:
                self.best = val["top1"]
                self.save_weights("student_best.safetensors")
        self.sums = self.no_sums()
        self.history.append({"epoch": self.epoch + 1, **self.metrics})
        self.call("after_epoch")

    def evaluate(self, loader: Loader) -> dict[str, float]:
        batches = loader.all(self.batch_size, parallel.rank(), parallel.world())
        networks = {"student": self.deployed}
        return evaluate(networks, batches, self.device, self.plan.precision)["student"]

    def answer_signals(self) -> None:
        """After a step: SIGUSR1 saves and goes on, SIGTERM and SIGINT save and stop."""
        signal = parallel.largest(self.asked())
        if signal:
            self.save()
        if signal in STOPPING:
            raise Stopped(signal)

    def is_due(self) -> bool:
        minutes = self.plan.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self.saved_at > 60 * minutes

    def save(self) -> None:
        """Writes a checkpoint, unless this step's is written or a weight isn't finite."""
        self.check_finite()
        state = self.state()
        weights = {**state["student"], **state["learned"]}
        if not all(torch.isfinite(w).all() for w in weights.values() if w.is_floating_point()):
            raise Diverged(f"diverged by step {self.step}: a weight isn't finite.")
        if parallel.rank() == 0 and self.saved_step != self.step:
            checkpoint.save(
                self.output_dir / "checkpoints",
                state,
                step=self.step,
                config=self.plan.config,
                keep=self.plan.checkpoint_keep,
            )
        self.saved_at, self.saved_step = time.monotonic(), self.step

    def save_weights(self, name: str) -> None:
        if parallel.rank() == 0:
            weights = self.deployed.network.state_dict()
            checkpoint.save_weights(self.output_dir / name, weights, self.plan.about or {})

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on; loaded with ``weights_only``."""
        return {
            "step": self.step,
            "student": self.model.student.network.state_dict(),
            "learned": self.model.learned.state_dict(),
            "averaged": self.averaged.module.network.state_dict() if self.averaged else {},
            "optimizer": checkpoint.by_name(self.model, self.optimizer),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums,
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a checkpoint's state."""
        self.step = self.saved_step = state["step"]
        self.model.student.network.load_state_dict(state["student"])
        self.model.learned.load_state_dict(state["learned"])
        if self.averaged:
            self.averaged.module.network.load_state_dict(state["averaged"])
        checkpoint.load_by_name(self.model, self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.history, self.best = state["history"], state["best"]
        self.seconds = state["seconds"]

    def no_sums(self) -> dict[str, Tensor]:
        names = ("steps", "loss", *(term.name for term in self.model.terms))
        return {name: torch.zeros((), device=self.device) for name in names}

    def call(self, moment: str) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self)

    def unsynced(self) -> AbstractContextManager[None]:
        """Gradients of all but the last part of a step stay with their process."""
        if isinstance(self.parallel, DistributedDataParallel):
            no_sync: AbstractContextManager[None] = self.parallel.no_sync()
            return no_sync
        return nullcontext()


STOPPING = (2, 15)  # SIGINT, SIGTERM


def seed_of(*numbers: int | str) -> int:
    """A seed that is a hash of what it is for, e.g. (seed, step, process)."""
    text = "/".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """A batch in equal parts, in its order."""
    columns = (batch.image, batch.target, batch.item)
    for image, target, item in zip(*(c.chunk(parts) for c in columns), strict=True):
        yield Batch(image, target, item, batch.epoch)
