"""Config -> objects; no other file hands a config's values to a part."""

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from kdframe import arithmetic, checkpoint, parallel
from kdframe.backbones import Backbone
from kdframe.build_loss import blame, build_terms, options_of
from kdframe.config import Config
from kdframe.datasets import Dataset
from kdframe.distillation import Distillation
from kdframe.hooks import Hook
from kdframe.loading import Loader, hold_out
from kdframe.plan import Plan, seed_of
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS, deploying
from kdframe.schema import teachers_of
from kdframe.solver import make_optimizer, schedule
from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")


class Data(NamedTuple):
    """The three splits of a run, and what a network must agree on with them."""

    train: Loader
    val: Loader | None
    test: Loader
    about: dict[str, Any]  # classes, mean, std
    image: tuple[int, int, int]  # (3, H, W)


def build_dataset(config: Config, split: str) -> Dataset:
    """A split of DATASET."""
    name = config.tree.DATASET.NAME
    with blame(config, "DATASET"):
        options = options_of(DATASETS, name, config.tree.DATASET)
        dataset: Dataset = DATASETS[name](split, **options)
        return dataset


def build_data(config: Config, device: torch.device) -> Data:
    """The splits: validation is the set's own, or held out of training; equal class lists."""
    branch = config.tree.DATASET
    train, test = (build_dataset(config, split) for split in ("train", "test"))
    make = functools.partial(
        Loader,
        device=device,
        augment=branch.AUGMENT,
        seed=config.tree.SEED,
        workers=branch.WORKERS,
        channels_last=config.tree.SOLVER.CHANNELS_LAST,
    )
    with blame(config, "DATASET.VAL"):
        own = "val" in train.splits and branch.VAL > 0
        kept, held = hold_out(len(train), 0.0 if own else branch.VAL)
        val = third = None
        if own:
            third = build_dataset(config, "val")
            val = make(third, torch.arange(len(third)))
        elif len(held):
            val = make(train, held)
    for split, other in (("test", test), ("val", third)):
        if other is not None and list(other.classes) != list(train.classes):
            where = difference(list(train.classes), list(other.classes))
            raise config.error("DATASET", f"{split} has other classes than train: {where}.")
    about = {"classes": list(train.classes), "mean": list(train.mean), "std": list(train.std)}
    with blame(config, "SOLVER.BATCH_SIZE"):
        loader = make(train, kept)
        loader.steps(config.tree.SOLVER.BATCH_SIZE)
    return Data(loader, val, make(test, torch.arange(len(test))), about, (3, *train.size))


def difference(train: list[str], other: list[str]) -> str:
    """Where two lists of classes part."""
    if missing := [name for name in train if name not in other]:
        return f"it lacks {brief(missing)}"
    if more := [name for name in other if name not in train]:
        return f"it has {brief(more)} besides"
    return f"their order is {brief(other)}, and train's {brief(train)}"


def build_backbone(
    config: Config, branch: str, num_classes: int, input_size: tuple[int, int, int]
) -> Backbone:
    """The network of STUDENT or of a teacher, freshly drawn from (SEED, branch), on the CPU."""
    node = config.tree[branch]
    torch.manual_seed(seed_of(config.tree.SEED, branch))
    with blame(config, branch):
        options = options_of(BACKBONES, node.NAME, node)
        backbone: Backbone = BACKBONES[node.NAME](num_classes, **options)
        backbone.input_size = input_size
        try:
            backbone.probe()
        except (AssertionError, RuntimeError) as error:
            sized = " (IMAGE_SIZE builds it for them)" if "image_size" in options else ""
            raise ValueError(
                f"{node.NAME} can't take images of {input_size}{sized}: {error}"
            ) from error
    return backbone


def load_weights(config: Config, branch: str, backbone: Backbone, file: str, data: Data) -> None:
    """Fills a network from ``file``, "pretrained" (the library's), or "random" (nothing to do).

    Raises:
        ConfigError: a tensor that doesn't fit; classes or normalisation that differ.
    """
    with blame(config, f"{branch}.WEIGHTS"):
        if file == "pretrained":
            if backbone.pretrained is None:
                raise ValueError(f"{config.tree[branch].NAME} has no pretrained weights.")
            warn_of_normalisation(config, branch, backbone, data)
            backbone.network.load_state_dict(backbone.pretrained())
        elif file not in ("", "random"):
            weights, about = checkpoint.load_weights(Path(file))
            for key, ours in data.about.items():
                if key in about and about[key] != ours:
                    raise ValueError(
                        f"{file} was trained with {key} {brief(about[key])}, and DATASET "
                        f"{config.tree.DATASET.NAME} has {brief(ours)}."
                    )
            checkpoint.fit(weights, backbone.network, Path(file), backbone.foreign)


def warn_of_normalisation(config: Config, branch: str, backbone: Backbone, data: Data) -> None:
    """A student gets used to other numbers; a teacher that doesn't learn is wrong from the start.

    Raises:
        ValueError: a teacher's published weights expect images normalised otherwise.
    """
    known: dict[str, Any] = getattr(backbone.network, "pretrained_cfg", {})
    for key in ("mean", "std"):
        ours, theirs = data.about[key], list(known.get(key, data.about[key]))
        if ours != theirs:
            why = (
                f"{config.tree[branch].NAME}'s published weights expect {key} {brief(theirs)}, and "
                f"DATASET {config.tree.DATASET.NAME} has {brief(ours)}."
            )
            if branch != "STUDENT" and not config.tree[branch].TRAIN:
                raise ValueError(why)
            log.warning("warning: %s", config.error(f"{branch}.WEIGHTS", why))


def brief(values: Any) -> str:
    """A list as a reader can take it in; a file may say something else in its place."""
    if not isinstance(values, list):
        return str(values)[:60]
    shown = ", ".join(map(str, values[:5]))
    return f"({shown}, ... {len(values)} in all)" if len(values) > 5 else f"({shown})"


def build_hooks(config: Config, output_dir: Path) -> list[Hook]:
    """The hooks, on the first process; none on the others."""
    if parallel.rank():
        return []
    hooks = []
    for name, node in config.tree.HOOKS.items():
        if node is not None:
            with blame(config, f"HOOKS.{name}"):
                hooks.append(HOOKS[name](output_dir, **options_of(HOOKS, name, node)))
    return hooks


def build_networks(config: Config, data: Data) -> tuple[Backbone, dict[str, Backbone]]:
    """Student and teachers, with their WEIGHTS if there are some; a recipe's come later."""
    named = {
        branch: build_backbone(config, branch, len(data.about["classes"]), data.image)
        for branch in ("STUDENT", *teachers_of(config.tree))
        if config.tree[branch].NAME
    }
    for branch, network in named.items():
        load_weights(config, branch, network, config.tree[branch].WEIGHTS, data)
    return named.pop("STUDENT"), named


def build_deployed(config: Config, num_classes: int, input_size: tuple[int, int, int]) -> Backbone:
    """What a run of this config deploys, without weights: the student, or what a term makes of it.

    Such a term is built with a teacher for its shapes alone.
    """
    blank = functools.partial(build_backbone, num_classes=num_classes, input_size=input_size)
    student = blank(config, "STUDENT")
    for key in deploying(config.tree.LOSS):
        name = key.split("/")[0]
        options = options_of(DISTILLERS, name, config.tree.LOSS[key])
        term = DISTILLERS[name](student, blank(config, "TEACHER"), **options)
        deployed: Backbone = term.deployed(student)
        return deployed
    return student


def place(config: Config, network: nn.Module, device: torch.device) -> None:
    """Moves a network to the device, laid out as the loaders' images are."""
    last = config.tree.SOLVER.CHANNELS_LAST
    network.to(device)
    network.to(memory_format=torch.channels_last if last else torch.contiguous_format)


def precision_on(config: Config, device: torch.device) -> torch.dtype:
    """The type of the networks' arithmetic."""
    with blame(config, "SOLVER.PRECISION"):
        return arithmetic.dtype_on(config.tree.SOLVER.PRECISION, device)


def build_trainer(
    config: Config,
    data: Data,
    student: Backbone,
    teachers: Mapping[str, Backbone],
    output_dir: Path,
    asked: Callable[[], int] = lambda: 0,
) -> Trainer:
    """Everything that a training needs, on the data's device; teachers by their branch."""
    solver, device = config.tree.SOLVER, data.train.device
    parts = parallel.world() * solver.ACCUMULATE
    if solver.BATCH_SIZE % parts:
        raise config.error(
            "SOLVER.BATCH_SIZE",
            f"{solver.BATCH_SIZE} isn't a multiple of processes x ACCUMULATE, {parts}.",
        )
    precision = precision_on(config, device)
    first, *others = teachers.values() or (None,)
    terms = build_terms(config, student, tuple(teachers.values()), data.train.labels)
    model = Distillation(student, first, terms, precision, others, config.tree.TEACHER.TRAIN)
    for network in (model, *teachers.values()):
        place(config, network, device)
    if solver.SYNC_BN and parallel.world() > 1:
        if device.type != "cuda":
            raise config.error("SOLVER.SYNC_BN", "torch has it on CUDA only.")
        parallel.sync_batchnorm(model)
    if solver.COMPILE:
        student.compile(**arithmetic.compiling(device))
        for teacher in teachers.values():
            teacher.compile(**arithmetic.compiling(device, teacher is model.partner))
    with blame(config, "SOLVER.OPTIMIZER"):
        optimizer = make_optimizer(
            solver.OPTIMIZER,
            [p for p in model.parameters() if p.requires_grad],
            lr=solver.LR,
            weight_decay=solver.WEIGHT_DECAY,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
        )
    with blame(config, "SOLVER.SCHEDULE"):
        rate = schedule(
            solver.SCHEDULE,
            solver.LR,
            epochs=solver.EPOCHS,
            warmup=solver.WARMUP_EPOCHS,
            steps=solver.STEPS,
            gamma=solver.GAMMA,
        )
    plan = Plan(
        epochs=solver.EPOCHS,
        batch_size=solver.BATCH_SIZE,
        schedule=rate,
        seed=config.tree.SEED,
        accumulate=solver.ACCUMULATE,
        clip_grad=solver.CLIP_GRAD,
        ema=solver.EMA,
        precision=precision,
        checkpoint_minutes=config.tree.CHECKPOINT.MINUTES,
        checkpoint_keep=config.tree.CHECKPOINT.KEEP,
        config=config.digest(),
        about={**data.about, "network": config.tree.STUDENT.NAME, "config": config.digest()},
    )
    hooks = build_hooks(config, output_dir)
    return Trainer(model, data.train, data.val, optimizer, plan, output_dir, hooks, asked)
