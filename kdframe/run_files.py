"""The JSON that a run writes about itself, held against what a run writes when it is read."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdframe.values import ConfigError

NUMBER = (int, float)
KINDS: dict[str, dict[str, Any]] = {  # by file, of the keys that others read
    "run.json": {
        "command": list, "versions": dict, "seed": int, "state": str, "config": str, "device": str,
        "git": str, "kdframe": str, "python": str, "start": str,
    },
    "results.json": {
        "config": str, "steps": int, "seed": int, "gain": NUMBER, "agreement": NUMBER,
        "seconds": NUMBER,
    },
}  # fmt: skip
NETWORK = re.compile(r"student|test|test_best|baseline|teacher(/.*)?")
FIGURES = {  # of each network
    "results.json": ("top1", "top5", "nll", "ece"),
    "complexity.json": ("parameters", "multiply_adds"),
}


def read_json(path: Path) -> dict[str, Any] | None:
    """A file of ours, or None where there is none.

    Raises:
        ConfigError: it is there, and broken.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is broken: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is broken: it holds no mapping.")
    kinds, figures = KINDS.get(path.name, {}), FIGURES.get(path.name)
    for key, value in content.items():
        sound = isinstance(value, kinds.get(key, object))
        if figures and NETWORK.fullmatch(key):
            sound = isinstance(value, dict) and are_numbers(value.get(name) for name in figures)
        if not sound:
            raise ConfigError(f"{path} is broken: {key} isn't what a run writes.")
    return content


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether all of them are."""
    return all(isinstance(value, NUMBER) for value in values)


def require(path: Path, content: Mapping[str, Any], *keys: str) -> None:
    """Refuses what was read from ``path`` where it lacks one of these.

    Raises:
        ConfigError: it does.
    """
    for key in keys:
        if key not in content:
            raise ConfigError(f"{path} is broken: it has no {key}.")
