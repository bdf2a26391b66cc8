"""A whole config: where a setting stands, the YAML that loads to it, what makes a run the same."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdframe.schema import WEIGHTS, branch_of, is_path, teachers_of
from kdframe.values import ConfigError

RECIPES = "_RECIPES_"  # in a dump, what recipes took from a command line: part of what they are
ALIKE = ("OUTPUT_DIR", "TIMEOUT", "HOOKS", "CHECKPOINT", "DATASET.WORKERS", "DATASET.ROOT")


@dataclass(frozen=True)
class Config:
    """A whole config.

    Attributes:
        tree: every key, frozen.
        path: the file as given.
        sources: of every key that was set, the file as given or reached, or "command line".
        warnings: the settings without effect, a sentence each.
        recipes: the configs behind a teacher's CONFIG and BASELINE, by that key.
        shared: what the recipes took from a command line.
        lines: of every key that was set in a file, from 1.
    """

    tree: CfgNode
    path: Path
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    recipes: Mapping[str, "Config"]
    shared: Mapping[str, Any]
    lines: Mapping[str, int]

    def error(self, key: str, message: str) -> ConfigError:
        """The error of that key, naming where it or the nearest branch above it was set.

        Of a branch that a later place has a part in, that place is named, and no line.
        """
        return error_of(key, message, self)

    def source(self, key: str) -> str:
        """Where that key, or the nearest branch above it, was set."""
        return source_of(key, self.sources, self.path)

    def line(self, key: str) -> int:
        """Its line there; 0 on a command line, and for what nobody set."""
        return self.lines.get(set_by(key, self.sources), 0)

    def dump(self) -> str:
        """The whole tree as YAML that loads to an equal config."""
        text: str = yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)
        return text

    def plain(self) -> dict[str, Any]:
        """The whole tree as dicts, lists and plain values."""
        shared = {RECIPES: plain(self.shared)} if self.recipes and self.shared else {}
        return {**shared, **plain(self.tree)}

    def digest(self) -> str:
        """SHA-256 over what makes a run the same: every key but OUTPUT_DIR, TIMEOUT, HOOKS,
        CHECKPOINT, DATASET.WORKERS and DATASET.ROOT; a recipe by its digest, a file of weights by
        its content.
        """
        counted = dict(counting(plain(self.tree)))
        counted |= {key: recipe.digest() for key, recipe in self.recipes.items()}
        for branch in ("STUDENT", *teachers_of(self.tree)):
            file, words = self.tree[branch].WEIGHTS, WEIGHTS[branch_of(branch)]
            if file not in ("", *words):
                content = Path(file).read_bytes()
                counted[f"{branch}.WEIGHTS"] = hashlib.sha256(content).hexdigest()
        return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """(key, its value in ``other``, its value here) where a dumped tree makes another run.

        Files are told apart by their names here; only ``digest`` looks into them.
        """
        return differences(other, self.plain())


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, its value in ``one``, in ``two``) where dumped trees make other runs."""
    old, new = dict(counting(one)), dict(counting(two))
    for tree in (old, new):
        tree |= {key: Path(str(file)).name for key, file in tree.items() if is_path(key) and file}
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in keys]


def error_of(key: str, message: str, config: Any) -> ConfigError:
    """As of :class:`Config`, of one or of a draft."""
    source, line = config.source(key), config.line(key)
    below = {place for name, place in config.sources.items() if name.startswith(f"{key}.")}
    for later in ("command line", str(config.path)):
        if later in below and source not in ("command line", later):
            source, line = later, 0
    return ConfigError(f"{source}: {key}: {message}", line)


def source_of(key: str, sources: Mapping[str, str], path: Path) -> str:
    """Where that key, or the nearest branch above it, was set."""
    return sources.get(set_by(key, sources), str(path))


def set_by(key: str, sources: Mapping[str, str]) -> str:
    """That key, or the nearest branch above it that was set; empty if none was."""
    while key and key not in sources:
        key = key.rpartition(".")[0]
    return key


def plain(value: Any) -> Any:
    """A tree as dicts, lists and plain values."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def counting(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys and values of what makes a run another; a dropped term is no term."""
    for key, value in tree.items():
        name = f"{at}{key}"
        if name.removeprefix(f"{RECIPES}.") in ALIKE or value is None:
            continue
        if isinstance(value, dict) and value:
            yield from counting(value, f"{name}.")
        else:
            yield name, value
