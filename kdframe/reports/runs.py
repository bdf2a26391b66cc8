"""Runs as they lie in their folders: one, or the rows and seeds of a study."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdframe.layers import mapping_in
from kdframe.resolved import differences
from kdframe.run_files import are_numbers, read_json, require

SEARCHED = "search"  # the folder of a search's trials, which are no rows


class NoRun(LookupError):
    """A folder without a run."""

    exit_code = 2


@dataclass
class Run:
    """What a run's folder says.

    Attributes:
        folder: OUTPUT_DIR.
        seed: SEED.
        state: done, running, stopped, failed; or why the folder can't be read.
        about: run.json.
        results: results.json, empty unless the run is done.
        epochs: metrics.jsonl's lines of epochs: "epoch", "train/<term>", "val/top1", ...
        costs: complexity.json: parameters and multiply_adds of "student" and "teacher".
        analysis: see ``kdframe.analysis``; empty where nothing was measured.
        notes: what a reader must know about it.
    """

    folder: Path
    seed: int
    state: str
    about: dict[str, Any]
    results: dict[str, Any]
    epochs: list[dict[str, float]]
    costs: dict[str, Any]
    analysis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.state == "done"


@dataclass
class Row:
    """Runs that differ in their seed.

    Attributes:
        name: of its folder.
        label: as it is shown.
        runs: by seed, ascending.
        baseline: the name of the row that it is compared with; empty for none.
        kind: row, or what is there to compare with: teacher, alone.
    """

    name: str
    label: str
    runs: list[Run]
    baseline: str = ""
    kind: str = "row"

    @property
    def done(self) -> list[Run]:
        return [run for run in self.runs if run.done]


@dataclass
class Study:
    """Rows to be compared; a run alone is a study of one row."""

    folder: Path
    name: str
    rows: list[Row]
    single: bool = False


def read(folder: Path) -> Study:
    """The run or the study in a folder.

    A study is a folder with study.json, or any with runs two levels deep: rows and seeds.

    Raises:
        NoRun: it holds neither, or a broken study.json.
    """
    if not folder.is_dir():
        there = "it is a file, and no run's or study's folder"
        raise NoRun(f"{folder}: {there if folder.is_file() else 'there is no such folder'}.")
    if (folder / "run.json").exists() or (folder / "results.json").exists():
        run = read_run(folder)
        name = "/".join(folder.resolve().parts[-2:])
        return Study(folder, name, [Row(name, name, [run])], single=True)
    try:
        said = read_json(folder / "study.json") or {}
    except ValueError as error:
        raise NoRun(str(error)) from error
    known = said.get("rows") or {}
    if not isinstance(known, dict) or not all(isinstance(row, dict) for row in known.values()):
        raise NoRun(f"{folder}/study.json is broken: rows isn't what a study writes.")
    rows = list(read_rows(folder, known))
    if not any(row.runs for row in rows):
        raise NoRun(f"{folder}: there is no run in it: no run.json here, nor in ROW/SEED folders.")
    return Study(folder, str(said.get("name") or folder.resolve().name), rows)


def read_rows(folder: Path, said: dict[str, Any]) -> Iterator[Row]:
    """The rows in a study's own order, then those that it doesn't know, by name."""
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != SEARCHED)
    for name in [*said, *(name for name in found if name not in said)]:
        runs, row = read_seeds(folder / name), said.get(name, {})
        if runs or row:
            yield Row(
                name,
                str(row.get("label") or name),
                runs,
                baseline=str(row.get("baseline") or ""),
            )


def read_seeds(folder: Path) -> list[Run]:
    """The runs of a row by seed, each once, under whatever names; the newest of a seed that is done
    before all others.
    """
    found = sorted((path.parent for path in folder.glob("*/run.json")), key=Path.is_symlink)
    places = {place.resolve(): place for place in reversed(found)}
    runs = [read_run(place) for place in places.values()]
    newest = sorted(runs, key=lambda run: (run.done, str(run.about.get("start", ""))))
    kept = {run.seed if run.about else run.folder: run for run in newest}
    for run in runs:
        chosen = kept[run.seed if run.about else run.folder]
        if chosen is not run:
            chosen.notes.append(f"{run.folder} has this seed too, and isn't counted.")
    rows = sorted(kept.values(), key=lambda run: run.seed)
    for run in rows[1:]:
        keys = differing(rows[0].folder, run.folder)
        if keys:
            run.notes.append(f"its config isn't that of {rows[0].folder}: {', '.join(keys)}.")
    return rows


def differing(first: Path, other: Path) -> list[str]:
    """The keys that make them more than two seeds of one config; none where a file is missing."""
    paths = [folder / "config.yaml" for folder in (first, other)]
    if not all(path.exists() for path in paths):
        return []
    try:
        one, two = (mapping_in(path)[0] for path in paths)
    except ValueError as error:
        return [str(error).removesuffix(".")]
    return [key for key, *_ in differences(one, two) if key != "SEED"]


def read_run(folder: Path) -> Run:
    """A run's folder, whatever state it is in."""
    try:
        about, results, costs = (
            read_json(folder / name) or {}
            for name in ("run.json", "results.json", "complexity.json")
        )
        if results:
            require(folder / "results.json", results, "config")
        epochs = read_epochs(folder / "metrics.jsonl")
    except ValueError as error:
        why = str(error).removeprefix(f"{folder}/")
        return Run(folder, 0, f"unreadable: {why}", {}, {}, [], {})
    state = "done" if results else str(about.get("state", "running"))
    seed = about.get("seed", results.get("seed", 0))
    return Run(folder, seed, state, about, results, epochs, costs)


def read_epochs(path: Path) -> list[dict[str, float]]:
    """The lines of epochs; a last line may be half-written, and null is no number.

    Raises:
        ValueError: another line is broken.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is broken: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} is broken: a line is no mapping.")
    rows = [row for row in rows if any(key.startswith("train/") for key in row)]
    rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
    if not all("epoch" in row and are_numbers(row.values()) for row in rows):
        raise ValueError(f"{path} is broken: an epoch's line isn't what a run writes.")
    return rows


def references(study: Study) -> list[Row]:
    """Of a run alone, the runs behind its teacher and its baseline, where they are still there."""
    rows = []
    for run in (run for row in study.rows for run in row.done if study.single):
        for who, place in run.analysis.get("recipes", {}).items():
            if (Path(place) / "run.json").exists():
                kind = "alone" if who == "baseline" else "teacher"
                label = "student alone" if who == "baseline" else who
                rows.append(Row(who, label, [read_run(Path(place))], kind=kind))
    return rows
