"""What a config would come to on this machine: its data, its recipes, time, memory and disk."""

from collections.abc import Iterator
from pathlib import Path

import torch

from kdframe import build
from kdframe.config import Config, ConfigError
from kdframe.doctor import Finding, writable
from kdframe.dry_run import Estimate, duration, estimate
from kdframe.exit_codes import code_of, sentence
from kdframe.resuming import refuse_other_config
from kdframe.run import needed, recipe_folder, start

TIGHT = 0.9  # of what is free


def prognosis(config: Config) -> Iterator[Finding]:
    """All of a config that can go wrong before step 0, and three steps to tell the rest by.

    What stops the run is the last finding.
    """
    at = "config"
    try:
        for warning in config.warnings:
            yield Finding("warning", at, warning)
        yield Finding("ok", at, f"{config.path} is valid")
        at = "device"
        device = start(config)
        build.precision_on(config, device)
        yield Finding("ok", at, f"{device}, {config.tree.SOLVER.PRECISION}")
        folder = Path(config.tree.OUTPUT_DIR)
        if config.tree.OUTPUT_DIR and (folder / "run.json").exists():
            yield occupied(config, folder)
        at = "data"
        data = build.build_data(config, device)
        yield Finding("ok", at, described(config, data))
        at = "networks"
        yield from recipes(config)
        found = estimate(config, device, data)
    except Exception as error:
        if code_of(error) == 1:  # a fault of kdframe's own is no finding
            raise
        yield Finding("error", at, sentence(error))
    else:
        yield from costs(config, device, found)


def occupied(config: Config, folder: Path) -> Finding:
    """A folder with a run in it, and what can be done about that."""
    try:
        refuse_other_config(config, folder)
    except ConfigError:
        said = f"{folder} holds the run of another config"
        return Finding("warning", "OUTPUT_DIR", said, "name another folder")
    return Finding("warning", "OUTPUT_DIR", f"{folder} holds a run", "train with --resume")


def described(config: Config, data: build.Data) -> str:
    """The splits in one line."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    counts = ", ".join(f"{len(loader):,} {name}" for name, loader in splits.items() if loader)
    size = "x".join(map(str, data.image[1:]))
    classes = len(data.about["classes"])
    return f"{config.tree.DATASET.NAME}: {counts} images of {size} in {classes} classes"


def recipes(config: Config) -> Iterator[Finding]:
    """Which teachers and baselines are there, and which will be trained first."""
    for key, recipe in needed(config).items():
        folder = recipe_folder(recipe)
        there = (folder / "results.json").exists()
        how = f"is trained, in {folder}" if there else f"will be trained first, in {folder}"
        yield Finding("ok", key, f"{recipe.path} {how}")
    for branch in config.tree:
        if branch.partition("/")[0] in ("STUDENT", "TEACHER") and config.tree[branch].WEIGHTS:
            yield Finding("ok", f"{branch}", f"WEIGHTS {config.tree[branch].WEIGHTS}")


def costs(config: Config, device: torch.device, found: Estimate) -> Iterator[Finding]:
    """Time, memory and disk, against what there is."""
    yield Finding(
        "ok", "time",
        f"about {duration(found.seconds)} for {found.steps:,} steps, recipes yet to train included",
    )  # fmt: skip
    text = f"{found.memory / 2**30:.1f} GiB at the peak of three steps"
    if device.type == "cuda" and found.memory > TIGHT * free_on(device):
        yield Finding("warning", "memory", text, "a smaller SOLVER.BATCH_SIZE, or ACCUMULATE")
    else:
        yield Finding("ok", "memory", text)
    folder = Path(config.tree.OUTPUT_DIR or "runs")
    place = writable(folder, found.disk / TIGHT)
    need = f"the run takes about {found.disk / 1e6:,.1f} MB; {place.said}"
    yield place._replace(about="disk", said=need)


def free_on(device: torch.device) -> int:
    """Bytes of a CUDA device that no other process has; this one keeps what three steps took."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
