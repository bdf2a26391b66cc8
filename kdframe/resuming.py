"""Going on with a run: that it is the same run, and from where."""

import logging
from pathlib import Path
from typing import Any

import yaml

from kdframe import checkpoint
from kdframe.config import Config, ConfigError
from kdframe.run_folder import CHECKPOINTS, read_json
from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")


def refuse_other_config(config: Config, folder: Path) -> None:
    """A run goes on with the config it was started with; only EPOCHS may grow."""
    path, about = folder / "config.yaml", read_json(folder / "run.json")
    if about is None or not about.get("trained", True):
        return
    changed = config.differences(written(path))
    if not changed and about.get("config", config.digest()) != config.digest():
        raise config.error(
            "TEACHER", f"a recipe or a file of weights isn't what the run in {folder} began with."
        )
    for key, old, new in changed:
        if key != "SOLVER.EPOCHS" or new < old:
            raise config.error(
                key, f"the run in {folder} has {old!r}, and --resume can't make it {new!r}."
            )


def written(path: Path) -> dict[str, Any]:
    """The config that a run wrote.

    Raises:
        ConfigError: it is gone or broken, and nobody can say whether this is the same run.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is gone or broken: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is broken: it holds no mapping.")
    return tree


def go_on(trainer: Trainer, folder: Path, begun: bool) -> None:
    """Takes the newest whole checkpoint, if there is one; ``begun``: there might be."""
    state = checkpoint.newest(folder / CHECKPOINTS)
    if state is not None:
        trainer.load(state)
        log.info("resumed at step %d of %d", trainer.step, trainer.steps)
    elif begun:
        log.info("%s holds no checkpoint yet: the run starts at step 0", folder)


def began_with(weights: str, folder: Path) -> bool:
    """Whether these are the weights that the student of the run in ``folder`` began with."""
    path = folder / "config.yaml"
    return path.exists() and written(path)["STUDENT"]["WEIGHTS"] == weights
