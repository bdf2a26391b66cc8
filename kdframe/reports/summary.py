"""What the console says at a run's start and end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from kdframe import __version__
from kdframe.registry import DISTILLERS
from kdframe.reports.complexity import complexity

if TYPE_CHECKING:
    from kdframe.build import Data
    from kdframe.config import Config
    from kdframe.trainer import Trainer

SHORT = {"TEMPERATURE": "T"}


def header(config: Config, data: Data, trainer: Trainer) -> Iterator[str]:
    """Lines: device, both networks with their cost, the splits, the loss as a formula."""
    tree = config.tree
    yield (
        f"kdframe  {__version__}: {config.path} on {trainer.device}, "
        f"{', '.join(turned_on(tree, trainer.device))}, seed {tree.SEED}"
    )
    for note in notes(tree, trainer.device):
        yield f"note     {note}"
    networks = [("student", tree.STUDENT.NAME, trainer.model.deployed)]
    named = sorted(name for name in tree if name.startswith("TEACHER") and tree[name].NAME)
    for branch, network in zip(named, trainer.model.teachers, strict=True):
        networks.append((branch.lower(), tree[branch].NAME, network))
    for who, name, network in networks:
        cost = complexity(network)
        yield (
            f"{who}  {name}: {cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds"
        )
    classes, augment = len(data.about["classes"]), tree.DATASET.AUGMENT
    yield f"data     {tree.DATASET.NAME}, {classes} classes, augmentation {augment}"
    for split, loader in (("train", data.train), ("val", data.val), ("test", data.test)):
        if loader is not None:
            yield f"  {split:5}  {loader.describe()}"
    solver = tree.SOLVER
    yield (
        f"solver   {solver.OPTIMIZER}, {solver.EPOCHS} epochs of {trainer.steps_per_epoch} steps, "
        f"batch {solver.BATCH_SIZE}, lr {solver.LR:g} {solver.SCHEDULE}"
    )
    yield f"loss     {formula(tree.LOSS)}"


def turned_on(tree: Any, device: torch.device) -> Iterator[str]:
    """What makes this run's arithmetic fast, or exact, or both."""
    yield tree.SOLVER.PRECISION
    threads = torch.get_num_threads()
    if device.type == "cpu":
        yield f"{threads} threads" if threads > 1 else "1 thread"
    if tree.SOLVER.CHANNELS_LAST:
        yield "channels_last"
    if tree.SOLVER.COMPILE:
        yield "compiled with CUDA graphs" if device.type == "cuda" else "compiled"
    if tree.DETERMINISTIC:
        yield "deterministic"


def notes(tree: Any, device: torch.device) -> Iterator[str]:
    """What is better known about a device before hours on it."""
    if device.type == "mps":
        yield "DEVICE mps is untested: no run on one has been compared with one on a CPU."
    if device.type == "cpu" and tree.SOLVER.COMPILE:
        yield "COMPILE takes about a minute on a CPU, and gains 0 to 10 % of a step."


def formula(loss: Any) -> str:
    """The branch LOSS as a sum: ``L = 0.5 cross_entropy + 0.5 kd(T=5)``."""
    terms = []
    for key, node in loss.items():
        if node is None:
            continue
        default = {k.upper(): v for k, v in DISTILLERS.options(key.split("/")[0]).items()}
        default |= {"WARMUP": 0.0, "START": 0.0, "STOP": 0.0}
        said = [
            f"{SHORT.get(k, k.lower())}={short(v)}"
            for k, v in node.items()
            if k != "WEIGHT" and v != default[k]
        ]
        options = f"({', '.join(said)})" if said else ""
        weight = "" if node.WEIGHT == 1 else f"{node.WEIGHT:g} "
        terms.append(f"{weight}{key}{options}")
    return "L = " + " + ".join(terms)


def short(value: Any) -> str:
    """5.0 as 5; all else as it is."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(results: dict[str, Any], where: str) -> list[str]:
    """The closing table: everyone on the test split, then gain, agreement and where it all is."""
    grid = Table(box=None, header_style="")
    grid.add_column("test split")
    for name in ("top-1 %", "top-5 %", "nll", "ece"):
        grid.add_column(name, justify="right")
    student = "distilled student" if "teacher" in results else "student"
    rows = {
        **{key: key for key in sorted(results) if key.partition("/")[0] == "teacher"},
        "baseline": "student alone",
        "test": student,
        "test_best": f"{student}, best on validation",
    }
    for key, name in rows.items():
        if key in results:
            r = results[key]
            cells = (f"{r['top1']:.2f}", f"{r['top5']:.2f}", f"{r['nll']:.3f}", f"{r['ece']:.3f}")
            grid.add_row(name, *cells)
    text = io.StringIO()
    Console(file=text, width=100, force_jupyter=False).print(grid)
    lines = ["", *(line.rstrip() for line in text.getvalue().splitlines())]
    if "gain" in results:
        lines.append(f" gain       {results['gain']:+.2f} points over the student alone")
    if "agreement" in results:
        lines.append(
            f" agreement  {results['agreement']:.2f} % of images named as the teacher does"
        )
    return [*lines, f" files      {where}"]
