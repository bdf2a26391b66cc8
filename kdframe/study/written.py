"""A study as its file says it: rows, seeds, and what is compared with what; read without torch."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from kdframe.config import Draft, first_pass
from kdframe.layers import Layer, from_file, overlay
from kdframe.resolved import source_of
from kdframe.schema import is_path
from kdframe.shipped import find
from kdframe.study.space import Space, read_space
from kdframe.values import ConfigError, Key, hint, shown, take, unknown

NUMBERS = (
    " of different numbers from 0",
    lambda seeds: len(seeds) > 0 and min(seeds) >= 0 and len({*seeds}) == len(seeds),
)
ABOVE_0 = (" above 0", lambda value: value > 0)
METRICS = ("val/top1", "val/top5", "val/nll", "val/ece")
STUDY: dict[str, Key] = {
    "NAME": Key("", str),
    "SEEDS": Key((0,), tuple[int, ...], *NUMBERS),
    "BASELINE": Key("", str),
    "OUTPUT_DIR": Key("", str),
    "TEACHER_CACHE": Key("off", Literal["off", "fp32", "fp16"]),
}
ROW: dict[str, Key] = {
    "CONFIG": Key("", str),
    "LABEL": Key("", str),
    "SEEDS": Key((0,), tuple[int, ...], *NUMBERS),
    "BASELINE": Key("", str),
}
SEARCH: dict[str, Key] = {
    "ROW": Key("", str),
    "METRIC": Key(METRICS[0], str),
    "SAMPLER": Key("tpe", Literal["tpe", "random", "grid"]),
    "PRUNER": Key("median", Literal["median", "hyperband", "none"]),
    "TRIALS": Key(20, int, *ABOVE_0),
    "SEED": Key(0, int, " from 0", lambda seed: seed >= 0),
}
OWN = ("OUTPUT_DIR", "SEED")  # of a run: what a study sets itself
SEARCHED = "search"  # the folder of a search's trials, so no row's name


@dataclass(frozen=True)
class Row:
    """One line of the table: a config, its overrides and its seeds.

    Attributes:
        name: in the file, and of its folder.
        label: in tables.
        config: the file.
        seeds: a run each.
        baseline: the row that it is compared with; empty for none.
        layers: laid over the config, the study's before its own.
    """

    name: str
    label: str
    config: Path
    seeds: tuple[int, ...]
    baseline: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Search:
    """What is sought, where, and by what; ``row`` is what it starts from."""

    row: str
    space: Space
    metric: str
    sampler: str
    pruner: str
    trials: int
    seed: int


@dataclass(frozen=True)
class Study:
    """A study's file, checked.

    Attributes:
        path: the file as given.
        name: NAME, or the file's stem.
        rows: by their names.
        output_dir: of everything that it makes.
        cache: TEACHER_CACHE.
        search: None where the file has none.
        sources: the file that each key stands in.
    """

    path: Path
    name: str
    rows: Mapping[str, Row]
    output_dir: Path
    cache: str
    search: Search | None
    sources: Mapping[str, str] = field(repr=False)

    def error(self, key: str, message: str) -> ConfigError:
        """The error of that key, naming where it or the nearest branch above it was set."""
        return ConfigError(f"{source_of(key, self.sources, self.path)}: {key}: {message}")

    def draft(self, row: Row, seed: int, more: Sequence[Layer] = ()) -> Draft:
        """Pass 1 of the config of a run; ``more`` is laid over all.

        Raises:
            ConfigError: as of :func:`kdframe.config.read`.
        """
        layers = [*row.layers, Layer(f"{self.path}: SEEDS", Path(), {"SEED": seed}), *more]
        return first_pass(row.config, layers, f"{self.path}: ROWS.{row.name}.CONFIG: ")

    def refuse_unknown(self, rows: Sequence[str], seeds: Sequence[int]) -> None:
        """Rows and seeds that a command line picks must be there, and one row have one of both.

        Raises:
            ConfigError: there is no such row, or no row has that seed.
        """
        for name in rows:
            if name not in self.rows:
                raise no_row("command line: --rows", name, self.rows)
        there = {seed for row in self.rows.values() for seed in row.seeds}
        for seed in seeds:
            if seed not in there:
                raise ConfigError(f"command line: --seeds: no row has the seed {seed}.")
        if rows and seeds and not any({*seeds} & {*self.rows[name].seeds} for name in rows):
            raise ConfigError(
                f"command line: --seeds: none of {', '.join(rows)} has one of {shown([*seeds])}."
            )


def read_study(path: str | Path) -> Study:
    """A study's file and pass 1 of every config that it names; imports no torch and no part.

    Raises:
        ConfigError: whatever is wrong and needs no part to be seen, in one line.
    """
    path = find(path)
    tree, sources = dict[str, Any](), dict[str, str]()
    for layer in from_file(path):
        overlay(tree, layer.data, layer.source, sources)
    if "ROWS" not in tree and "STUDENT" in tree:
        raise ConfigError(
            f"{path}: it is the config of one run; a study has ROWS, which name some."
        )
    known = [*STUDY, "ROWS", "OVERRIDES", "SEARCH"]
    whole = own(tree, STUDY, "", path, sources, known)
    name = whole["NAME"] or path.stem
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"{path}: NAME takes letters, digits, _, . and -, not {shown(name)}.")
    rows = read_rows(tree, whole, path, sources)
    study = Study(
        path=path,
        name=name,
        rows=rows,
        output_dir=Path(whole["OUTPUT_DIR"] or f"runs/studies/{name}"),
        cache=whole["TEACHER_CACHE"],
        search=read_search(tree["SEARCH"], rows, path, sources) if "SEARCH" in tree else None,
        sources=sources,
    )
    for row in rows.values():
        draft = study.draft(row, row.seeds[0])
        if study.search and row.name == study.search.row and not draft.tree.DATASET.VAL:
            raise draft.error("DATASET.VAL", "it is 0, and a search looks at validation only.")
    return study


def own(
    given: Any, keys: Mapping[str, Key], at: str, path: Path, sources: Mapping[str, str],
    known: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """A mapping's own keys, whole and checked; ``known`` are all that may stand there."""
    source = source_of(at.strip("."), sources, path)
    if not isinstance(given, dict):
        raise ConfigError(f"{source}: {at.strip('.')} takes a mapping, not {shown(given)}.")
    for key in given:
        if key not in known:
            raise unknown(
                source_of(at + key, sources, path), at + key, [at + other for other in known]
            )
    return {
        key: take(source_of(at + key, sources, path), at + key, given[key], kind)
        if key in given
        else kind.default
        for key, kind in keys.items()
    }


def read_rows(
    tree: Mapping[str, Any], whole: Mapping[str, Any], path: Path, sources: Mapping[str, str]
) -> dict[str, Row]:
    """ROWS, each with what the study says for all; a row that is null is dropped."""
    given = tree.get("ROWS")
    if not isinstance(given, dict) or not any(row is not None for row in given.values()):
        raise ConfigError(
            f"{source_of('ROWS', sources, path)}: ROWS takes a mapping of one row or more, as in "
            f"ROWS: {{student: {{CONFIG: student.yaml}}}}, not {shown(given)}."
        )
    known, rows = [*ROW, "OVERRIDES"], dict[str, Row]()
    for name, row in given.items():
        if row is None:
            continue
        at = f"ROWS.{name}."
        mine, source = own(row, ROW, at, path, sources, known), source_of(at[:-1], sources, path)
        if not re.fullmatch(r"[\w-]+", name) or name == SEARCHED:
            raise ConfigError(
                f"{source}: ROWS: a row's name is letters, digits, _ and -, and not {SEARCHED}: "
                f"{shown(name)} names its folder."
            )
        if not mine["CONFIG"]:
            raise ConfigError(f"{source}: {at}CONFIG: nothing is named here; a row is a config.")
        rows[name] = Row(
            name=name,
            label=mine["LABEL"] or name,
            config=beside(source_of(f"{at}CONFIG", sources, path), mine["CONFIG"]),
            seeds=mine["SEEDS"] if "SEEDS" in row else whole["SEEDS"],
            baseline=mine["BASELINE"] if "BASELINE" in row else whole["BASELINE"],
            layers=tuple(
                overrides(holder, key, path, sources)
                for holder, key in ((tree, "OVERRIDES"), (row, f"{at}OVERRIDES"))
                if "OVERRIDES" in holder
            ),
        )
    named = {name: f"ROWS.{name}.BASELINE" for name in rows if "BASELINE" in given[name]}
    for name, row in rows.items():
        if row.baseline and row.baseline not in rows:
            key = named.get(name, "BASELINE")
            raise no_row(f"{source_of(key, sources, path)}: {key}", row.baseline, rows)
    return rows


def beside(source: str, path: str) -> Path:
    """A path that is relative to a file, as reached from the working folder."""
    return Path(os.path.normpath(Path(source).parent / path))


def overrides(holder: Mapping[str, Any], key: str, path: Path, sources: Mapping[str, str]) -> Layer:
    """A mapping of settings, written as a config is."""
    given, source = holder["OVERRIDES"], source_of(key, sources, path)
    if not isinstance(given, dict):
        raise ConfigError(
            f"{source}: {key} takes a mapping as a config has it, as in "
            f"{{SOLVER: {{LR: 0.1}}}}, not {shown(given)}."
        )
    for name in OWN:
        if name in given:
            raise ConfigError(f"{source}: {key}.{name}: a study sets it for every run itself.")
    data = reached(given, f"{key}.", path, sources)
    return Layer(f"{source}: {key}", Path(), data)


def reached(
    given: Mapping[str, Any], at: str, path: Path, sources: Mapping[str, str], above: str = ""
) -> dict[str, Any]:
    """Settings whose paths are as reached from the working folder; each is relative to its file."""
    data: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            data[key] = reached(value, at, path, sources, f"{name}.")
        elif isinstance(value, str) and value and is_path(name):
            data[key] = str(beside(source_of(at + name, sources, path), value))
        else:
            data[key] = value
    return data


def read_search(
    given: Any, rows: Mapping[str, Row], path: Path, sources: Mapping[str, str]
) -> Search:
    """SEARCH: one row, and the keys of its config that are sought."""
    mine = own(given, SEARCH, "SEARCH.", path, sources, [*SEARCH, "SPACE"])
    source = source_of("SEARCH", sources, path)
    if not mine["ROW"] or mine["ROW"] not in rows:
        raise no_row(f"{source}: SEARCH.ROW", mine["ROW"], rows)
    metric = mine["METRIC"]
    if metric not in METRICS:
        test = metric.split("/")[0].startswith("test")
        same = f"val/{metric.rpartition('/')[2]}"
        near = [same] if same in METRICS else get_close_matches(metric, METRICS, n=1)
        why = "the test split is read once, when all is chosen" if test else "validation only"
        raise ConfigError(
            f"{source}: SEARCH.METRIC takes one of {', '.join(METRICS)} ({why}), not "
            f"{shown(metric)}.{hint(near)}"
        )
    space = read_space(given.get("SPACE"), source)
    for key in OWN:
        if key in space.ranges:
            raise ConfigError(
                f"{source}: SEARCH.SPACE.{key}: a study sets it for every run itself."
            )
    if mine["SAMPLER"] == "grid":
        size = space.grid_size(source)
        if "TRIALS" in given and mine["TRIALS"] != size:
            raise ConfigError(
                f"{source}: SEARCH.TRIALS is {mine['TRIALS']}, and the grid has {size} points: "
                "leave it out."
            )
        mine["TRIALS"] = size
    return Search(space=space, **{key.lower(): value for key, value in mine.items()})


def no_row(where: str, name: str, rows: Mapping[str, Row]) -> ConfigError:
    """The answer to a row that isn't there."""
    near = get_close_matches(name, rows, n=1)
    others = "" if near else f" There are {', '.join(chain(rows))}."
    return ConfigError(f"{where}: there is no row {shown(name)}.{hint(near)}{others}")
