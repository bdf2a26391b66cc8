"""A finished run, read back from its folder: the student that it deploys, and its test split."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdframe import build, checkpoint
from kdframe.backbones import Backbone
from kdframe.build_loss import options_of
from kdframe.config import Config, ConfigError, load
from kdframe.layers import mapping_in
from kdframe.loading import Loader
from kdframe.registry import BACKBONES, DISTILLERS, Registry, deploying
from kdframe.run_files import read_json, require
from kdframe.run_folder import require_done
from kdframe.trainer import BEST

FILES = {"last": "student.safetensors", "best": BEST}
MEASURED = {"last": "test", "best": "test_best"}  # the entries of results.json
TOLD = (  # what an export tells of its run
    "command", "config", "device", "git", "kdframe", "python", "seed", "start", "versions",
)  # fmt: skip


class Finished(NamedTuple):
    """A run that is done."""

    config: Config  # without recipes and files of weights: they may be gone
    student: Backbone  # in eval mode, on the CPU
    test: Loader
    about: dict[str, Any]  # as of ``formats.base.Student``
    run: dict[str, Any]  # run.json
    results: dict[str, Any]  # results.json


def read(folder: Path, weights: str = "last", root: str = "") -> Finished:
    """The run in ``folder`` with its ``last`` weights, or the ``best`` on validation.

    ``root`` is where DATASET's files are, if not where the run found them.

    Raises:
        ConfigError: there is no finished run, or its files don't belong together.
    """
    about_run = require_done(folder)
    config = config_of(folder, root)
    require(folder / "run.json", about_run, *TOLD)
    results = read_json(folder / "results.json") or {}
    require(folder / "results.json", results, "config", "steps")
    if results["config"] != about_run["config"]:
        raise ConfigError(f"{folder}: results.json and run.json are of two runs.")
    if "test" not in results:
        raise ConfigError(
            f"{folder}: a search's trial, which never read the test split: train the search's "
            "best.yaml and export that."
        )
    path = folder / FILES[weights]
    if not path.exists():
        why = "it has no validation split" if weights == "best" else "the file is gone"
        raise ConfigError(f"{folder} holds no {path.name}: {why}.")
    dataset = build.build_dataset(config, "test")
    device = torch.device("cpu")
    test = Loader(
        dataset,
        torch.arange(len(dataset)),
        device=device,
        augment=config.tree.DATASET.AUGMENT,
        workers=config.tree.DATASET.WORKERS,
    )
    about = {
        "classes": list(dataset.classes), "mean": list(dataset.mean), "std": list(dataset.std)
    }  # fmt: skip
    image = (3, *dataset.size)
    student = build.build_deployed(config, len(dataset.classes), image)
    try:
        tensors, said = checkpoint.load_weights(path)
        if said.get("config") != about_run["config"]:
            raise ValueError(f"{path} is of another run than run.json.")
        for key, ours in about.items():
            if said[key] != ours:
                raise ValueError(f"{path} and DATASET {config.tree.DATASET.NAME} differ in {key}.")
        checkpoint.fit(tensors, student.network, path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    about |= {
        "network": parts_of(config, image),
        "modules": list(config.tree.MODULES),
        "crop": 0.875 if config.tree.DATASET.AUGMENT == "resized_crop" else 1.0,
        "weights": weights,
        "config": about_run["config"],
        "kdframe": about_run["kdframe"],
    }
    return Finished(config, student.eval(), test, about, about_run, results)


def config_of(folder: Path, root: str = "") -> Config:
    """A run's config, of which the recipes and the files of weights may be gone: they did their
    work.  Of a teacher, its network is what is left.
    """
    path = folder / "config.yaml"
    over = {"BASELINE": "", "STUDENT.WEIGHTS": "", "OUTPUT_DIR": "", "DEVICE": "cpu"}
    written = mapping_in(path)[0]
    if not written.get("STUDENT"):
        raise ConfigError(f"{path} is broken: it has no STUDENT.")
    for branch, node in written.items():
        taught = branch.partition("/")[0] == "TEACHER" and isinstance(node, dict)
        if taught and node.get("NAME"):
            over |= {f"{branch}.CONFIG": "", f"{branch}.WEIGHTS": "random"}
    if root:
        over["DATASET.ROOT"] = root
    return load(path, [f"{key}={json.dumps(value)}" for key, value in over.items()])


def parts_of(config: Config, image: tuple[int, int, int]) -> dict[str, Any]:
    """The parts that a run's deployed network is built from, as the config names them."""
    tree = config.tree
    network: dict[str, Any] = {
        "input_size": list(image),
        "student": part_of(BACKBONES, tree.STUDENT.NAME, tree.STUDENT),
    }
    for key in deploying(tree.LOSS):
        network["teacher"] = part_of(BACKBONES, tree.TEACHER.NAME, tree.TEACHER)
        network["term"] = part_of(DISTILLERS, key.split("/")[0], tree.LOSS[key])
    return network


def part_of(registry: Registry, name: str, branch: Any) -> dict[str, Any]:
    """A part's name and options."""
    return {"name": name, "options": options_of(registry, name, branch)}
