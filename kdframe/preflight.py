"""All that can be found wrong before step 0, before recipes are trained for hours."""

import copy
import errno
import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdframe import parallel
from kdframe.build import Data
from kdframe.config import Config, ConfigError
from kdframe.datasets import Dataset
from kdframe.loading import Loader
from kdframe.plan import seed_of
from kdframe.trainer import Trainer
from kdframe.trial import Mistake, tried

log = logging.getLogger("kdframe")

KEPT = 2  # checkpoints for which there must be room


def preflight(config: Config, data: Data, trainer: Trainer, folder: Path | None = None) -> None:
    """Checks labels, optimizer, terms and the room for checkpoints; leaves everything as it was.

    ``folder``: where the checkpoints will be, if not in the trainer's.

    Raises:
        ConfigError: a label out of range, or a term that is written wrongly.
        OSError: no room in OUTPUT_DIR.
    """
    refuse_labels(config, data)
    refuse_groups(trainer)
    model, plan = trainer.model, trainer.plan
    views = any("views" in term.needs for term in model.terms)
    rank, world = parallel.rank(), parallel.world()
    batches = trainer.train_loader.train(0, plan.batch_size, 0, rank, world, views, stop=1)
    batch = next(next(batches).parts(plan.accumulate))
    try:
        doubts = tried(model, batch, seed_of(plan.seed, 0, rank))
    except Mistake as mistake:
        raise config.error(f"LOSS.{mistake.term}", str(mistake)) from mistake
    for doubt in doubts:
        key = f"LOSS.{doubt.term}" if doubt.term else "STUDENT"
        log.warning("warning: %s: %s: %s", config.source(key), key, doubt)
    if rank == 0:
        refuse_full(folder or trainer.output_dir, size_of_state(trainer))


def refuse_labels(config: Config, data: Data) -> None:
    """Every label of a split is the number of one of its classes, where they are known by now."""
    classes = len(data.about["classes"])
    for split, loader in (("training", data.train), ("validation", data.val), ("test", data.test)):
        if loader is None or not knows_labels(loader):
            continue
        labels = loader.stream.dataset.labels()[loader.items.cpu()]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise config.error(
                "DATASET",
                f"{len(wrong)} labels of the {split} split are outside 0 to {classes - 1}, "
                f"{int(wrong[0])} for one.",
            )


def knows_labels(loader: Loader) -> bool:
    """Whether a split tells its labels without reading every image."""
    dataset = loader.stream.dataset
    return loader.resident is not None or type(dataset).labels is not Dataset.labels


def refuse_groups(trainer: Trainer) -> None:
    """Every tensor that is trained is in one group of the optimizer, and none of a teacher's.

    Raises:
        RuntimeError: a fault of ours.
    """
    grouped = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    model = trainer.model
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    frozen = [t for t in model.teachers if t is not model.partner]
    taught = {p for teacher in frozen for p in teacher.parameters()}
    times = Counter(grouped)
    wrong = [f"{name} is in {times[p]} groups" for p, name in names.items() if times[p] != 1]
    wrong += ["a teacher's is in one"] * any(p in taught for p in grouped)
    if wrong:
        raise RuntimeError(f"the optimizer's tensors: {'; '.join(wrong[:3])}")


def size_of_state(trainer: Trainer) -> int:
    """Bytes of what a checkpoint holds, with what the optimizer keeps from its first step on."""
    hooks, trainer.hooks = trainer.hooks, ()  # theirs are a few bytes, and they may write a file
    state = {**trainer.state(), "optimizer": {}}
    trainer.hooks = hooks
    return bytes_of(state) + bytes_of(optimizer_state(trainer.optimizer))


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[int, Any]:
    """What it keeps once it has made a step: a copy of it makes one."""
    one = copy.deepcopy(optimizer)
    for group in one.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    one.step()
    return dict(enumerate(one.state.values()))


def bytes_of(tree: Any) -> int:
    """Of all tensors in a tree of dicts."""
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    return sum(map(bytes_of, tree.values())) if isinstance(tree, dict) else 0


def refuse_full(folder: Path, size: int) -> None:
    """There must be room for the checkpoints that aren't there yet, one at least.

    A folder that isn't there itself will be made in the nearest one above it.

    Raises:
        ConfigError: what is above the folder is no folder.
        OSError: there isn't, or the folder can't be written to.
    """
    while not folder.exists():
        folder = folder.parent
    probe = folder / f".room.{parallel.rank()}.tmp"
    try:
        probe.write_bytes(b"0")
        probe.unlink()
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"OUTPUT_DIR: nothing can be made in {folder}: {error.strerror}."
        raise ConfigError(why) from error
    there = len(list((folder / "checkpoints").glob("step_*.pt")))
    needed, free = max(1, KEPT - there) * size, shutil.disk_usage(folder).free
    if needed > free:
        count = "a checkpoint takes" if needed == size else f"{KEPT} checkpoints take"
        said = f"{count} {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, said, str(folder))
