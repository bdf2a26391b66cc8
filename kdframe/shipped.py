"""The configs that come with kdframe: found by name wherever one works."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from kdframe.values import ConfigError, hint

PACKAGE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")


def folder() -> Path:
    """Where they lie: inside of an installed package, and beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    """Of all that can be run, as in ``cifar100/resnet56_resnet20/dkd.yaml``."""
    files = [path for path in folder().rglob("*.yaml") if path.name != "base.yaml"]
    return sorted(path.relative_to(folder()).as_posix() for path in files)


def find(name: str | Path) -> Path:
    """What is named, or where there is nothing, the shipped config of that name.

    Raises:
        ConfigError: there is neither, with the likeliest name of those there are.
    """
    path = Path(name)
    if os.path.lexists(path) or path.is_absolute() or "://" in str(name):
        return path  # reading it answers what is wrong with it
    ours = {whole.removesuffix(".yaml"): whole for whole in names()}
    if path.as_posix() in ours.values():
        return folder() / path
    word = path.with_suffix("") if path.suffix in SUFFIXES else path
    here = {other.stem: other.name for other in path.parent.glob("*.y*ml")}
    near = closest(word.name, here) or closest(word.as_posix().removeprefix("configs/"), ours)
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path} is no .yaml file; nothing else is read.{hint(near)}")
    ends = hint(near) or " kdframe parts configs lists those that come with kdframe."
    raise ConfigError(f"there is no file {path}.{ends}")


def closest(word: str, named: Mapping[str, str]) -> list[str]:
    """The name of what is most like a word, or nothing."""
    return [named[near] for near in difflib.get_close_matches(word, named, n=1)]
