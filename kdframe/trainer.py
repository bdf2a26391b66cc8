"""The loop."""

import functools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor

from kdframe import checkpoint, parallel
from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term
from kdframe.evaluation import evaluate, watched
from kdframe.finite import Watch, refuse
from kdframe.hooks import Hook
from kdframe.loading import Loader
from kdframe.plan import Plan, seed_of
from kdframe.signals import LOST_NOTHING, SAVED, STOPPING, Stopped

log = logging.getLogger("kdframe")

BEST = "student_best.safetensors"
KEPT = ("student", "learned", "partner", "deployed", "optimizer")  # what must be finite of a state


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
        self.watch = Watch(model, optimizer, self.scaler, self.device)
        self.parallel = parallel.wrapped(model, self.device, model.alike())
        self.step = 0
        self.lr = 0.0
        self.loss = torch.zeros((), device=self.device)
        self.terms: dict[str, Tensor] = {}
        self.sums = self.no_sums()  # of an epoch's values so far
        self.counts = Counter[str]()  # of the steps that they are from
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []  # a dict an epoch
        self.best, self.best_digest = -math.inf, ""  # of val/top1, and of its student's weights
        self.seconds = 0.0  # of training and validation, over all processes that resumed the run
        self.images = 0  # since this process started
        self.saved_at = time.monotonic()
        self.saved_step = -1  # of the newest checkpoint that this process wrote or read
        self.begun = False  # there is something to save

    @property
    def epoch(self) -> int:
        """Whole epochs that are trained and evaluated."""
        return len(self.history)

    @cached_property
    def averaged(self) -> ModelEmaV3 | None:
        """The average of the deployed network; made at the first look, when its weights stand."""
        return ModelEmaV3(self.model.deployed, decay=self.plan.ema) if self.plan.ema else None

    @property
    def deployed(self) -> Backbone:
        """The network that is evaluated and saved: what the student becomes, or its average."""
        return self.averaged.module if self.averaged else self.model.deployed

    def train(self) -> None:
        """Runs the steps that are left.

        Raises:
            Diverged: with the term and the step.
            Stopped: by a signal, after a checkpoint.
        """
        started = time.monotonic() - self.seconds
        if self.step == 0:
            self.prepare()
        self.begun = True
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

    def fold(self) -> None:
        """Folds frozen teachers, and holds them against themselves on the first batch.

        That is always the same batch: a resumed run finds what the run found that it continues.
        """
        if any(teacher is not self.model.partner for teacher in self.model.teachers):
            batch = self.train_loader.first(self.batch_size, parallel.rank(), parallel.world())
            for line in self.model.fold(next(batch.parts(self.plan.accumulate)).image):
                log.info(line)

    def prepare(self) -> None:
        """Lets terms learn what they need before the first step, e.g. from the teacher alone."""
        for term in self.model.terms:
            loss: Any = term.loss
            if hasattr(loss, "prepare"):
                log.info("%s prepares itself", term.name)
                torch.manual_seed(seed_of(self.plan.seed, "prepare", term.name))
                loss.prepare(functools.partial(self.lessons, term))
                parallel.like_first(loss)

    def lessons(self, term: Term, epoch: int) -> Iterator[tuple[Output | None, Batch]]:
        """An epoch's batches with the teacher's Outputs, the same on every process."""
        for batch in self.train_loader.train(epoch, self.batch_size, views="views" in term.needs):
            self.answer_signals()
            yield self.model.teach(batch, term), batch

    def train_epoch(self, started: float) -> None:
        self.model.train()
        cache, items = self.model.cache, self.train_loader.plan(self.epoch, self.batch_size)
        first = self.step % self.steps_per_epoch
        with cache.epoch(self.epoch, items, first == 0) if cache else nullcontext():
            for batch in self.batches(self.epoch, first):
                self.train_step(batch)
                self.step += 1
                self.images += self.batch_size
                self.seconds = time.monotonic() - started
                self.call("after_step")
                self.answer_signals()
                if self.is_due():
                    self.save()

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This process's part of an epoch from step ``first`` on, as the terms that are on need."""
        on = [term for term in self.model.terms if term.was_on(epoch)]
        views = any("views" in term.needs for term in on)
        drawn = self.model.cache.view(epoch) if self.model.cache else epoch
        return self.train_loader.train(
            epoch, self.batch_size, first, parallel.rank(), parallel.world(), views, drawn
        )

    def train_step(self, batch: Batch) -> None:
        torch.manual_seed(seed_of(self.plan.seed, self.step, parallel.rank()))
        self.lr = self.plan.schedule(self.step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        total: dict[str, Tensor] = {}
        parts = list(batch.parts(self.plan.accumulate))
        for part in parts:
            with parallel.unsynced(self.parallel) if part is not parts[-1] else nullcontext():
                loss, terms = self.parallel(part)
                self.scaler.scale(loss / len(parts)).backward()
            for name, value in {"loss": loss.detach(), **terms}.items():
                total[name] = total.get(name, 0) + value / len(parts)
        norm = self.watch.clip(self.optimizer, self.plan.clip_grad)
        self.note(total, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update(self.model.deployed, step=self.step)

    def note(self, values: dict[str, Tensor], norm: Tensor | None) -> None:
        """Keeps a step's values on the device, and checks them now and then."""
        if parallel.world() > 1:
            mean = parallel.summed(torch.stack(list(values.values()))) / parallel.world()
            values = dict(zip(values, mean.unbind(), strict=True))
        for name, value in values.items():
            self.sums[name] += value
        self.counts.update(values.keys())
        self.loss = values.pop("loss")
        self.terms = values
        self.watch.see(self.step, self.loss, norm)
        if self.step % self.watch.every == 0:
            self.watch.check(self.step, self.sums)

    def end_epoch(self) -> None:
        """Saves, for evaluation may fail; then evaluates and keeps the best."""
        self.answer_signals()
        self.watch.check(self.step, self.sums)
        last = self.step == self.steps
        if last or (self.plan.checkpoint_minutes == 0 and self.saved_step != self.step):
            self.save()
        means = {k: v.item() / self.counts[k] for k, v in self.sums.items() if self.counts[k]}
        self.metrics = {f"train/{name}": mean for name, mean in means.items()}
        if self.val_loader is not None:
            refuse(self.deployed.network.state_dict(), self.step)  # it could become the best
            found = self.evaluate(self.val_loader)
            for who, val in found.items():
                at = "val" if who == "student" else f"val/{who}"
                self.metrics |= {f"{at}/{k}": val[k] for k in ("top1", "top5", "nll", "ece")}
            if (val := found["student"])["top1"] > self.best and math.isfinite(val["nll"]):
                self.best = val["top1"]
                self.best_digest = checkpoint.digest(self.deployed.network.state_dict())
                self.save_weights(BEST, self.deployed)
        self.sums, self.counts = self.no_sums(), Counter()
        self.history.append({"epoch": self.epoch + 1, **self.metrics})
        self.call("after_epoch")

    def evaluate(self, loader: Loader) -> dict[str, dict[str, float]]:
        """Of the student, and of a teacher that learns with it."""
        networks = {"student": self.deployed}
        if self.model.partner is not None:
            networks["teacher"] = self.model.partner
        for network in networks.values():  # BatchNorm's averages are a process's own
            parallel.like_first(network)
        return evaluate(networks, self.all(loader), self.device, self.plan.precision)

    def all(self, loader: Loader) -> Iterator[Batch]:
        """Every image of a split, with an answer to signals before each batch."""
        return watched(loader, self.batch_size, self.answer_signals)

    def answer_signals(self) -> None:
        """Between steps or batches: SIGUSR1 saves and goes on, SIGTERM and SIGINT save and stop.

        Before ``train`` has begun there is nothing to save: the run would begin anew.
        """
        signal = parallel.largest(self.asked())
        if signal and self.begun:
            self.save()
        if signal in STOPPING:
            raise Stopped(signal, SAVED if self.begun else LOST_NOTHING)

    def is_due(self) -> bool:
        minutes = self.plan.checkpoint_minutes
        return minutes > 0 and time.monotonic() - self.saved_at > 60 * minutes

    def save(self) -> None:
        """Writes a checkpoint, unless this step's is written or a weight isn't finite."""
        self.watch.check(self.step, self.sums)
        state = self.state()
        refuse({name: state[name] for name in KEPT}, self.step)
        if parallel.rank() == 0 and self.saved_step != self.step:
            checkpoint.save(
                self.output_dir / "checkpoints",
                state,
                step=self.step,
                config=self.plan.config,
                keep=self.plan.checkpoint_keep,
            )
        self.saved_at, self.saved_step = time.monotonic(), self.step

    def save_weights(self, name: str, backbone: Backbone) -> None:
        if parallel.rank() == 0:
            weights = backbone.network.state_dict()
            checkpoint.save_weights(self.output_dir / name, weights, self.plan.about or {})

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on; loaded with ``weights_only``."""
        return {
            "step": self.step,
            "config": self.plan.config,
            "student": self.model.student.network.state_dict(),
            "learned": self.model.learned.state_dict(),
            "deployed": self.deployed.network.state_dict(),
            "partner": self.model.partner.network.state_dict() if self.model.partner else {},
            "optimizer": checkpoint.by_name(self.model, self.optimizer),
            "shared": checkpoint.shared_of(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums,
            "counts": dict(self.counts),
            "history": self.history,
            "best": (self.best, self.best_digest),
            "seconds": self.seconds,
            "hooks": {type(h).__qualname__: kept for h in self.hooks if (kept := h.state_dict())},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a checkpoint's state."""
        self.step = self.saved_step = state["step"]
        self.model.student.network.load_state_dict(state["student"])
        self.model.learned.load_state_dict(state["learned"])
        if self.averaged:
            self.averaged.module.network.load_state_dict(state["deployed"])
        if self.model.partner:
            self.model.partner.network.load_state_dict(state["partner"])
        known = state["optimizer"], state["shared"]
        checkpoint.load_by_name(self.model, self.optimizer, *known)
        self.scaler.load_state_dict(state["scaler"])
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.counts = Counter(state["counts"])
        self.history, self.seconds = state["history"], state["seconds"]
        self.best, self.best_digest = state["best"]
        best = self.output_dir / BEST, self.best_digest, self.plan.about or {}
        if self.best_digest and parallel.rank() == 0 and not checkpoint.renewed(*best):
            self.best = -math.inf  # it is gone, or of a stretch that is now trained anew
        for hook in self.hooks:
            if (kept := state["hooks"].get(type(hook).__qualname__)) is not None:
                hook.load_state_dict(kept)

    def no_sums(self) -> dict[str, Tensor]:
        names = ("loss", *self.model.names)
        return {name: torch.zeros((), device=self.device) for name in names}

    def call(self, moment: str) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self)
