"""Going on with a run: that it is the same run, and from where."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdframe import checkpoint
from kdframe.config import Config, ConfigError
from kdframe.layers import mapping_in
from kdframe.registry import deploying
from kdframe.run_files import read_json
from kdframe.run_folder import CHECKPOINTS
from kdframe.schema import branch_of
from kdframe.trainer import Trainer
from kdframe.values import one_line

log = logging.getLogger("kdframe")

OF_TRAINING = {  # keys of STUDENT, TEACHER and LOSS that make no other network
    "WEIGHTS", "CONFIG", "TRAIN", "CACHE", "CACHE_EPOCHS", "WEIGHT", "WARMUP", "START", "STOP",
}  # fmt: skip


def refuse_other_config(config: Config, folder: Path) -> None:
    """A run goes on with the config it was started with; only EPOCHS may grow."""
    path, about = folder / "config.yaml", read_json(folder / "run.json")
    if about is None or not about.get("trained", True):
        return
    before, its_baselines = config, config
    for key, old, new in config.differences(written(path)):
        if key != "SOLVER.EPOCHS" or new < old:
            raise config.error(
                key, f"the run in {folder} has {old!r}, and --resume can't make it {new!r}."
            )
        before = with_epochs(config, old)
        alone = config.recipes.get("BASELINE")
        shared = {"BASELINE": with_epochs(alone, old)} if alone else {}
        its_baselines = replace(before, recipes={**config.recipes, **shared})
    digests = {c.digest() for c in (before, its_baselines, config)}  # it may have died in between
    if about.get("config", config.digest()) not in digests:
        raise config.error(
            "TEACHER", f"a recipe or a file of weights isn't what the run in {folder} began with."
        )


def with_epochs(config: Config, epochs: int) -> Config:
    """The same config, but for SOLVER.EPOCHS."""
    tree = config.tree.clone()
    tree.defrost()
    tree.SOLVER.EPOCHS = epochs
    return replace(config, tree=tree)


def refuse_other_student(config: Config, folder: Path) -> None:
    """The student of the run in ``folder`` is measured as what it is; on other images if told.

    Where a term makes another network of it, that is made of the teacher and the term, too.
    """
    path = folder / "config.yaml"
    made_of = ("STUDENT", "TEACHER", "LOSS") if deploying(config.tree.LOSS) else ("STUDENT",)
    for key, old, new in config.differences(written(path)) if path.exists() else ():
        branch, word = branch_of(key), key.rpartition(".")[2]
        if branch in made_of and word not in OF_TRAINING:
            raise config.error(
                key,
                f"the run in {folder} has {old!r}, and --eval-only can't make it {new!r}; "
                f"--config-file {path} measures it.",
            )
        if branch == "DATASET":
            log.warning("warning: %s is %r here, and the run in %s has %r", key, new, folder, old)


def written(path: Path) -> dict[str, Any]:
    """The config that a run wrote.

    Raises:
        ConfigError: it is gone or broken, and nobody can say whether this is the same run.
    """
    try:
        return mapping_in(path)[0]
    except ConfigError as error:
        raise ConfigError(f"{path} is gone or broken: {error}") from error


def go_on(trainer: Trainer, folder: Path, told: bool) -> None:
    """Takes the newest whole checkpoint, if there is one; ``told``: that there is none is said."""
    state = checkpoint.newest(folder / CHECKPOINTS)
    if state is not None:
        try:
            trainer.load(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            why = one_line(str(error))[:200]
            raise checkpoint.NoCheckpoint(
                f"{folder}: the newest checkpoint isn't one of this run: {why}"
            ) from error
        log.info("resumed at step %d of %d", trainer.step, trainer.steps)
    elif told:
        log.info("%s holds no checkpoint yet: the run starts at step 0", folder)


def began_with(weights: str, folder: Path) -> bool:
    """Whether these are the weights that the student of the run in ``folder`` began with."""
    path = folder / "config.yaml"
    student = written(path).get("STUDENT") if path.exists() else None
    return isinstance(student, dict) and student.get("WEIGHTS") == weights
