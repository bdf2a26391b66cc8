"""Everything up to step 0, and how long the rest would take."""

import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from kdframe import build
from kdframe.build import Data
from kdframe.config import Config
from kdframe.preflight import bytes_of, preflight, size_of_state
from kdframe.reports.summary import header
from kdframe.run import needed, recipe_folder, settle_threads, start
from kdframe.teachers import cache_of, gate
from kdframe.trainer import Trainer

RUNS = "runs"  # where folders are that OUTPUT_DIR doesn't name

log = logging.getLogger("kdframe")


class Estimate(NamedTuple):
    """What a run will take, by the first few steps of it."""

    steps: int
    seconds: float  # of its steps, with those of the recipes that aren't trained yet
    memory: float  # bytes at the peak, see ``peak_memory``
    disk: int  # bytes of checkpoints, weights and a teacher's kept answers


def dry_run(config: Config, asked: Callable[[], int] = lambda: 0) -> float:
    """Does everything up to step 0 in a folder that goes, and three steps to tell the rest by.

    Returns:
        The seconds that the run will take, with the recipes that aren't trained yet.
    """
    device = start(config)
    found = estimate(config, device, build.build_data(config, device), asked)
    log.info(
        "dry run  %s: %d steps; about %s, recipes yet to train included; peak memory %.1f GiB",
        config.path,
        found.steps,
        duration(found.seconds),
        found.memory / 2**30,
    )
    return found.seconds


def estimate(
    config: Config, device: torch.device, data: Data, asked: Callable[[], int] = lambda: 0
) -> Estimate:
    """``dry_run`` without its last line, on data that is there already."""
    seconds, files = 0.0, dict[str, str]()
    for key, recipe in needed(config).items():
        folder = recipe_folder(recipe)
        if (folder / "results.json").exists():
            log.info("%s %s is found in %s", key, recipe.path, folder)
            files[key.removesuffix(".CONFIG")] = str(folder / "student.safetensors")
        else:
            seconds += dry_run(recipe, asked)
    with tempfile.TemporaryDirectory() as temporary:
        student, teachers = build.build_networks(config, data)
        trainer = build.build_trainer(config, data, student, teachers, Path(temporary), asked)
        for line in header(config, data, trainer):
            log.info(line)
        preflight(config, data, trainer, Path(config.tree.OUTPUT_DIR or RUNS))
        known = {b: t for b, t in teachers.items() if b in files or config.tree[b].WEIGHTS}
        for branch, teacher in known.items():
            build.load_weights(config, branch, teacher, files.get(branch, ""), data)
        gate(config, data, trainer, known)
        settle_threads(trainer)
        trainer.fold()
        seconds += trainer.steps * seconds_a_step(trainer)
        cache = cache_of(config, data, trainer)
    parts = min(config.tree.TEACHER.CACHE_EPOCHS or trainer.epochs, trainer.epochs)
    kept = trainer.plan.checkpoint_keep + 1  # a new one is written before the oldest goes
    disk = kept * size_of_state(trainer) + 2 * bytes_of(trainer.deployed.state_dict())
    disk += parts * cache.bytes if cache else 0
    return Estimate(trainer.steps, seconds, peak_memory(device), disk)


def seconds_a_step(trainer: Trainer, warm_up: int = 2, timed: int = 3) -> float:
    """The median time of a few steps of training."""
    trainer.model.train()
    times = []
    for _, batch in zip(range(warm_up + timed), trainer.batches(0), strict=False):
        trainer.answer_signals()
        started = time.perf_counter()
        trainer.train_step(batch)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times[warm_up:] or times)[len(times[warm_up:] or times) // 2]


def peak_memory(device: torch.device) -> float:
    """Bytes: of the accelerator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def duration(seconds: float) -> str:
    """Seconds as 45 s, 12 min or 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
