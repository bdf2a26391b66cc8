"""A finished run's networks, from what lies in its folder."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdframe import build, checkpoint
from kdframe.backbones import Backbone
from kdframe.build import Data
from kdframe.config import Config, ConfigError, load
from kdframe.run import recipe_folder
from kdframe.run_files import read_json
from kdframe.schema import teachers_of

ERRORS = (ConfigError, checkpoint.NoCheckpoint, ValueError, FileNotFoundError)


@dataclass
class Rebuilt:
    """A run as its folder says it: the networks with their weights, by who they are."""

    config: Config
    data: Data
    networks: dict[str, Backbone] = field(default_factory=dict)
    recipes: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def teachers(self) -> dict[str, Backbone]:
        return {who: n for who, n in self.networks.items() if who.split("/")[0] == "teacher"}


def rebuild(folder: Path, device: torch.device) -> Rebuilt:
    """The run's data and networks.

    Raises:
        ConfigError: see ``analyse``.
    """
    config = load(folder / "config.yaml")
    results = read_json(folder / "results.json") or {}
    if config.digest() != results.get("config"):
        raise ConfigError(
            f"{folder}/config.yaml: it makes another run than this folder's: a recipe, a file of "
            "weights or the config changed since."
        )
    data = build.build_data(config, device)
    run = Rebuilt(config, data)
    sizes = len(data.about["classes"]), data.image
    student = build.build_deployed(config, *sizes)
    file = str(folder / "student.safetensors")
    build.load_weights(config, "STUDENT", student, file, data)
    run.networks["student"] = student.to(device)
    for branch in (name for name in teachers_of(config.tree) if config.tree[name].NAME):
        file, recipe = beginning(config, branch), config.recipes.get(f"{branch}.CONFIG")
        if config.tree[branch].TRAIN:
            file = str(folder / "teacher.safetensors")
        elif not config.tree[branch].WEIGHTS and recipe is not None:
            run.recipes[branch.lower()] = recipe_folder(recipe)
        add(run, branch.lower(), config, branch, file, device)
    if "BASELINE" in config.recipes:
        recipe = config.recipes["BASELINE"]
        run.recipes["baseline"] = recipe_folder(recipe)
        file = str(recipe_folder(recipe) / "student.safetensors")
        add(run, "baseline", recipe, "STUDENT", file, device)
    return run


def beginning(config: Config, branch: str) -> str:
    """The weights that the run's teacher began with; empty where it was freshly drawn."""
    recipe, file = config.recipes.get(f"{branch}.CONFIG"), str(config.tree[branch].WEIGHTS)
    if file or recipe is None:
        return file
    return str(recipe_folder(recipe) / "student.safetensors")


def add(
    run: Rebuilt, who: str, config: Config, branch: str, file: str, device: torch.device
) -> None:
    """One more network with its weights, or the reason why not."""
    try:
        network = build.build_backbone(
            config, branch, len(run.data.about["classes"]), run.data.image
        )
        build.load_weights(config, branch, network, file, run.data)
    except ERRORS as error:
        run.notes.append(f"{who} is left out: {str(error).splitlines()[-1]}")
    else:
        run.networks[who] = network.to(device)
