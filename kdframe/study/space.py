"""The keys that a search seeks, and what each may be."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from kdframe.values import ConfigError, Key, shown, take, unknown

Value = bool | int | float | str
RANGE: dict[str, Key] = {
    "LOW": Key(0.0, int | float),
    "HIGH": Key(0.0, int | float),
    "LOG": Key(False, bool),
    "STEP": Key(0.0, int | float),
}
KNOWN = (*RANGE, "CHOICES")
NUMBER = ("LOW", "HIGH", "STEP")
MOST = 10_000  # points of a grid


@dataclass(frozen=True)
class Range:
    """What one key may be: ``choices``, or a number from ``low`` to ``high``, both included.

    ``step`` 0: any number between.  ``whole``: an int.
    """

    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    whole: bool = False

    def points(self) -> list[Value] | None:
        """All values; None where there is no end of them."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.whole else 0)
        if not step:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + i * step for i in range(count)]
        return [round(value) for value in values] if self.whole else list(values)


@dataclass(frozen=True)
class Space:
    """The dotted keys that are sought, with their ranges."""

    ranges: Mapping[str, Range]

    def grid_size(self, source: str) -> int:
        """How many points a grid has.

        Raises:
            ConfigError: a range without end, or too many.
        """
        size = 1
        for key, values in self.ranges.items():
            points = values.points()
            if points is None:
                raise ConfigError(
                    f"{source}: SEARCH.SPACE: {key} needs CHOICES or a STEP for SAMPLER grid."
                )
            size *= len(points)
        if size > MOST:
            raise ConfigError(f"{source}: SEARCH.SPACE: a grid of {size:,} is more than {MOST:,}.")
        return size

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every point, as settings by dotted key."""
        columns = [values.points() or [] for values in self.ranges.values()]
        for point in product(*columns):
            yield dict(zip(self.ranges, point, strict=True))


def read_space(given: Any, source: str) -> Space:
    """SEARCH.SPACE, written as a config is, with a range where a value would stand.

    Raises:
        ConfigError: it is empty, or a range isn't one.
    """
    ranges = dict(found(given, source, "")) if isinstance(given, dict) else {}
    if not ranges:
        raise ConfigError(
            f"{source}: SEARCH.SPACE takes a mapping as a config has it, with ranges for values, "
            f"as in {{SOLVER: {{LR: {{LOW: 0.01, HIGH: 1, LOG: true}}}}}}, not {shown(given)}."
        )
    return Space(ranges)


def found(given: Mapping[str, Any], source: str, at: str) -> Iterator[tuple[str, Range]]:
    """The ranges in a nested mapping, by dotted key."""
    for key, value in given.items():
        name = f"{at}{key}"
        if not isinstance(value, dict) or not value:
            raise ConfigError(
                f"{source}: SEARCH.SPACE.{name} takes {{LOW, HIGH, LOG, STEP}} or {{CHOICES}}, "
                f"not {shown(value)}."
            )
        if {"LOW", "HIGH", "CHOICES"} & value.keys():
            yield name, read_range(value, f"{source}: SEARCH.SPACE.{name}", name)
        else:
            yield from found(value, source, f"{name}.")


def read_range(given: Mapping[str, Any], where: str, name: str) -> Range:
    """One range."""
    source = where.rpartition(": ")[0]
    for key in given:
        if key not in KNOWN:
            at = f"SEARCH.SPACE.{name}"
            raise unknown(source, f"{at}.{key}", [f"{at}.{other}" for other in KNOWN])
    if "CHOICES" in given:
        choices = given["CHOICES"]
        plain = isinstance(choices, list) and len(choices) > 1
        if not plain or not all(isinstance(v, bool | int | float | str) for v in choices):
            raise ConfigError(
                f"{where}.CHOICES takes a list of two or more plain values, not {shown(choices)}."
            )
        if len(given) > 1:
            raise ConfigError(f"{where}: CHOICES stands alone, without LOW, HIGH, LOG and STEP.")
        return Range(choices=tuple(choices))
    said = {
        key: take(source, f"SEARCH.SPACE.{name}.{key}", number(value), RANGE[key])
        for key, value in given.items()
    }
    if "LOW" not in said or "HIGH" not in said or said["LOW"] >= said["HIGH"]:
        raise ConfigError(f"{where}: it takes LOW and HIGH, LOW below HIGH, not {shown(given)}.")
    log, step = said.get("LOG", False), said.get("STEP", 0)
    if step < 0 or (log and (step or said["LOW"] <= 0)):
        raise ConfigError(f"{where}: STEP is above 0, and LOG takes a LOW above 0 and no STEP.")
    numbers = [said[key] for key in NUMBER if key in said]
    whole = all(isinstance(value, int) for value in numbers)
    return Range(low=said["LOW"], high=said["HIGH"], log=log, step=step, whole=whole)


def number(value: Any) -> Any:
    """YAML reads 1e-3 as a string; a range means the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
