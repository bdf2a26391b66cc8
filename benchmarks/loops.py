"""kdframe's own loop, built by its own config, and the bound that it is measured against."""

import contextlib
import copy
import importlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor

from benchmarks import noise
from benchmarks.clock import Work
from kdframe import build, run
from kdframe.backbones import Backbone
from kdframe.config import Config, load
from kdframe.hooks.tensorboard import TensorBoard
from kdframe.registry import BACKBONES
from kdframe.schema import BRANCHES
from kdframe.trainer import Trainer

EPOCH = 10  # steps
HOOKED = 50  # the step in which the hooks write: measurements end with it
NEVER = 1e6  # minutes
FOLDING = hasattr(Trainer, "fold")
CACHE = "CACHE" in BRANCHES["TEACHER"]


class Prepared(NamedTuple):
    """Data and networks of a config."""

    config: Config
    data: build.Data
    student: Backbone
    teacher: Backbone
    folder: Path

    def trainer(self) -> Trainer:
        """What ``kdframe.run.train`` makes of them, with its hooks started."""
        trainer = build.build_trainer(
            self.config, self.data, self.student, {"TEACHER": self.teacher}, self.folder
        )
        if FOLDING:
            trainer.fold()
        if CACHE and self.config.tree.TEACHER.CACHE != "off":
            fill_cache(self, trainer)
        trainer.call("before_train")
        return trainer


def prepared(
    pair: str, batch: int, device: torch.device, folder: Path, words: Iterable[str] = ()
) -> Prepared:
    """Of a config with kdframe's defaults, kd and cross_entropy; ``words`` are overrides."""
    names = dict(zip(("TEACHER", "STUDENT"), pair.split("-"), strict=True))
    branches: dict[str, dict[str, object]] = {
        branch: {"NAME": name, **({"SMALL_INPUT": True} if is_small(name) else {})}
        for branch, name in names.items()
    }
    branches["TEACHER"]["WEIGHTS"] = "random"
    written = {
        **branches,
        "DEVICE": device.type,
        "DATASET": {
            "NAME": noise.noise.__name__,
            "VAL": 0,
            "AUGMENT": "crop_flip",
            "TRAIN": EPOCH * batch,
            "TEST": EPOCH * batch,
        },
        "LOSS": {"cross_entropy": {"WEIGHT": 0.1}, "kd": {"WEIGHT": 0.9}},
        "SOLVER": {"BATCH_SIZE": batch, "LR": 0.01},
        "CHECKPOINT": {"MINUTES": NEVER},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    config = load(folder / "config.yaml", list(words))
    data = build.build_data(config, run.start(config))
    student, teachers = build.build_networks(config, data)
    return Prepared(config, data, student, teachers["TEACHER"], folder)


def fill_cache(ready: Prepared, trainer: Trainer) -> None:
    """Lets the teacher answer the first epoch, once."""
    model, folder = trainer.model, ready.folder.absolute()
    with contextlib.chdir(folder):
        cache = importlib.import_module("kdframe.teachers").cache_of(
            ready.config, ready.data, trainer
        )
        cache.folder = cache.folder.absolute()
    model.cache = cache
    items = trainer.train_loader.plan(0, trainer.batch_size)
    with cache.epoch(0, items, True):
        for batch in trainer.train_loader.train(0, trainer.batch_size):
            model.recall(model.teachers[0], batch, frozenset())


def close(*trainers: Trainer) -> None:
    """Lets hooks end what they write, before the folder is gone."""
    for hook in (hook for trainer in trainers for hook in trainer.hooks):
        if isinstance(hook, TensorBoard):
            hook.writer.close()


def is_small(name: str) -> bool:
    """A network that says how it takes small images."""
    return "small_input" in BACKBONES.options(name)


def settle(ready: Prepared) -> Prepared:
    """Batch norm as after training: with the statistics of a drawn network, numbers explode."""
    device = ready.data.train.device
    ready.teacher.to(device).train()
    with torch.no_grad():
        for _, batch in zip(range(4), ready.data.train.train(0, 32), strict=False):
            ready.teacher(batch.image)
    ready.teacher.eval()
    return ready


def last_steps(trainer: Trainer, steps: int) -> Work:
    """The last steps of the first epoch, as ``Trainer.train`` runs them: hooks and all."""

    def work() -> None:
        trainer.step = HOOKED - steps
        trainer.train_epoch(time.monotonic())

    return work


def as_asked(teacher: Backbone, image: Tensor) -> Backbone:
    """Folded, as kdframe asks it."""
    if not FOLDING:
        return teacher
    folding = importlib.import_module("kdframe.backbones.folding")
    asked: Backbone = folding.fold_if_same(teacher, image).network
    return asked


class Bound:
    """The least that a step can be: networks alone, on tensors that are there already.

    The networks are laid out as the trainer's; the gradient of the logits is given.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.student = copy.deepcopy(trainer.model.student).train()  # a copy isn't compiled
        self.batch = next(iter(trainer.train_loader.train(0, trainer.batch_size)))
        self.teacher = as_asked(trainer.model.teachers[0], self.batch.image)
        rows = trainer.batch_size
        self.gradient = torch.randn(rows, self.student.num_classes, device=trainer.device) / rows
        self.precision, self.device = trainer.plan.precision, trainer.device

    def live(self, steps: int) -> Work:
        """Teacher forward, student forward and backward."""

        def work() -> None:
            for _ in range(steps):
                with self.autocast(), torch.no_grad():
                    self.teacher(self.batch.image)
                self.learn()

        return work

    def cached(self, steps: int) -> Work:
        """Student forward and backward."""

        def work() -> None:
            for _ in range(steps):
                self.learn()

        return work

    def learn(self) -> None:
        """The student's part; what its gradients were is freed first."""
        self.student.zero_grad()
        with self.autocast():
            logits = self.student(self.batch.image).logits
        logits.backward(self.gradient.to(logits.dtype))

    def autocast(self) -> torch.autocast:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=half)


class Taps:
    """A step whose teacher and student hand out their last four maps, each given a gradient."""

    def __init__(self, bound: Bound, taps: int = 4) -> None:
        self.bound, self.taps = bound, taps
        rows = len(bound.batch.image)
        self.gradients = [
            torch.randn(rows, *f.shape[1:], device=bound.device).contiguous(
                memory_format=torch.channels_last
            )
            for f in bound.student.probe().features[-taps:]
        ]

    def without(self) -> None:
        """The networks' own forward passes, which hand out logits."""
        image, student = self.bound.batch.image, self.bound.student
        student.zero_grad()
        with torch.no_grad():
            self.bound.teacher.network(image)
        student.network(image).backward(self.bound.gradient)

    def used(self) -> None:
        """The same, and the gradients of the student's maps come in between."""
        image, student = self.bound.batch.image, self.bound.student
        student.zero_grad()
        with torch.no_grad():
            taught = self.bound.teacher(image).features[-self.taps :]
        output = student(image)
        maps = output.features[-self.taps :]
        torch.autograd.backward([output.logits, *maps], [self.bound.gradient, *self.gradients])
        del taught
