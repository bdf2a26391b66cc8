"""What is shown of the runs, as numbers: a page draws them as SVG, matplotlib for files."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdframe.reports.calibration import Reliability
from kdframe.reports.charts import SLOTS, Curve, Point
from kdframe.reports.comparison import Line
from kdframe.reports.runs import Row, Run, Study

Square = list[list[float]]
WHO = {"student": "student", "baseline": "student alone", "teacher": "teacher"}


@dataclass(frozen=True)
class Moment:
    """Each term's part in the student's gradient at a step, the mean over seeds."""

    label: str
    terms: dict[str, dict[str, float]]  # by term: weight, value, norm, share, cosine


@dataclass
class Panel:
    """One row's own figures, the means over its seeds; what was not measured is empty.

    Attributes:
        row: whose.
        gains: of each class, points of accuracy over the baseline, best first.
        against: what the gains are over.
        diagrams: reliability of student, student alone, teacher, of the images of all seeds.
        ece: of the same, the mean over seeds.
        maps: teacher's correlation of class logits minus that of the student (alone).
        classes: of the maps' rows; fewer than there are where neighbours are averaged.
        cka: of the student's stages with the teacher's; None where a stage says nothing.
        shapes: of the student's stages, and the teacher's.
        terms: the mean of each term over an epoch, unweighted.
        moments: the terms' shares of the gradient, on that many ``batches``.
        warnings: of a weight that does nothing.
    """

    row: Row
    gains: list[tuple[str, float]] = field(default_factory=list)
    against: str = "the student alone"
    diagrams: dict[str, Reliability] = field(default_factory=dict)
    ece: dict[str, float] = field(default_factory=dict)
    maps: dict[str, Square] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    cka: list[list[float | None]] = field(default_factory=list)
    shapes: list[list[list[int]]] = field(default_factory=list)
    terms: list[Curve] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    batches: int = 0
    warnings: list[str] = field(default_factory=list)


def panels(study: Study) -> list[Panel]:
    """One for each row that has something to show."""
    by_name = {row.name: row for row in study.rows}
    found = [panel(row, by_name.get(row.baseline)) for row in study.rows if row.done]
    return [p for p in found if p.diagrams or p.terms]


def panel(row: Row, baseline: Row | None) -> Panel:
    """Of a row with a finished run."""
    shown = Panel(row, terms=term_curves(row.done))
    analysed = same_kind([run for run in row.done if run.analysis])
    if not analysed:
        return shown
    first = analysed[0].analysis
    if baseline is not None and baseline is not row:
        shown.against = baseline.label
    shown.gains = gains(analysed, baseline)
    shown.classes = first["classes"]
    for who, label in WHO.items():
        measured = [run.analysis["networks"].get(who) for run in analysed]
        if all(measured):
            shown.diagrams[label] = summed([said["reliability"] for said in measured])
            shown.ece[label] = statistics.fmean(said["ece"] for said in measured)
        found = [run.analysis["likeness"].get(who, {}).get("correlation") for run in analysed]
        if all(found):
            shown.maps[label] = mean_square(found)
    alike = [run.analysis["likeness"].get("student", {}) for run in analysed]
    if all("cka" in said for said in alike):
        shown.cka = mean_square([said["cka"] for said in alike])
        shown.shapes = alike[0]["shapes"]
    shown.moments = list(moments(analysed))
    shown.batches = next((said["batches"] for said in first["gradients"]), 0)
    shown.warnings = warned(analysed)
    return shown


def same_kind(runs: Sequence[Run]) -> list[Run]:
    """Those that have the first one's classes, networks and stages: a mean takes like things."""
    kinds = [
        (run.analysis["classes"], run.analysis["networks"].keys(), shapes_of(run)) for run in runs
    ]
    return [run for run, kind in zip(runs, kinds, strict=True) if kind == kinds[0]]


def shapes_of(run: Run) -> Any:
    """Of the stages that were compared."""
    return run.analysis["likeness"].get("student", {}).get("shapes")


def gains(runs: Sequence[Run], baseline: Row | None) -> list[tuple[str, float]]:
    """By class, the mean over seeds of the difference in points; classes without images are left
    out.
    """
    others = {run.seed: run.analysis for run in baseline.done} if baseline else {}
    totals: dict[str, list[float]] = {}
    for run in runs:
        mine = run.analysis
        theirs = others.get(run.seed, {}) if baseline else mine
        alone = theirs.get("networks", {}).get("student" if baseline else "baseline")
        if alone is None or theirs["classes"] != mine["classes"]:
            continue
        columns = (mine["classes"], mine["class_images"], mine["networks"]["student"]["right"],
                   theirs["class_images"], alone["right"])  # fmt: skip
        for name, images, right, images_alone, right_alone in zip(*columns, strict=True):
            if images and images_alone:
                gain = 100 * (right / images - right_alone / images_alone)
                totals.setdefault(name, []).append(gain)
    means = [(name, statistics.fmean(found)) for name, found in totals.items()]
    return sorted(means, key=lambda pair: -pair[1])


def summed(diagrams: Sequence[Mapping[str, list[float]]]) -> Reliability:
    """One diagram of all images of all seeds."""
    return Reliability(
        **{key: [sum(bin_) for bin_ in zip(*(d[key] for d in diagrams), strict=True)]
           for key in ("count", "confidence", "accuracy")}
    )  # fmt: skip


def mean_square(squares: Sequence[Any]) -> Any:
    """Cell by cell; None where one has none."""
    return [
        [None if None in cells else statistics.fmean(cells) for cells in zip(*rows, strict=True)]
        for rows in zip(*squares, strict=True)
    ]


def moments(runs: Sequence[Run]) -> Iterator[Moment]:
    """Of the steps at which each of the runs was measured."""
    kept = [{said["step"]: said for said in run.analysis["gradients"]} for run in runs]
    for step in kept[0]:
        found = [said[step]["terms"] for said in kept if step in said]
        names = found[0].keys()
        if all(terms.keys() == names for terms in found):
            yield Moment(
                f"step {step:,}",
                {
                    name: {
                        key: statistics.fmean(terms[name][key] for terms in found)
                        for key in found[0][name]
                    }
                    for name in names
                },
            )


def warned(runs: Sequence[Run]) -> list[str]:
    """A sentence for each term with a share that says nothing or everything, at the last look."""
    said: dict[str, str] = {}
    for run in runs:
        for moment in run.analysis["gradients"][-1:]:
            for name, why in moment["warnings"].items():
                said[name] = f"{name} makes up {why.rstrip('.')} (step {moment['step']:,})."
    return list(said.values())


def term_curves(runs: Sequence[Run]) -> list[Curve]:
    """The terms of the loss over the epochs, and their weighted sum."""
    names = dict.fromkeys(key for run in runs for row in run.epochs for key in row)
    terms = [name for name in names if name.startswith("train/") and name != "train/loss"]
    curves = [
        curve(runs, name, name.removeprefix("train/"), i % SLOTS) for i, name in enumerate(terms)
    ]
    if len(terms) > 1:
        curves.append(curve(runs, "train/loss", "weighted sum", len(terms) % SLOTS))
    return [c for c in curves if c.x]


def curve(runs: Sequence[Run], key: str, label: str, slot: int) -> Curve:
    """One number's mean and standard deviation over seeds, of the epochs that all have."""
    columns = [{row["epoch"]: row[key] for row in run.epochs if key in row} for run in runs]
    columns = [column for column in columns if column]
    epochs = sorted(set.intersection(*map(set, columns))) if columns else []
    values = [[column[epoch] for column in columns] for epoch in epochs]
    spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
    return Curve(label, epochs, list(map(statistics.fmean, values)), spread, slot)


def learning_curves(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """Of every row: accuracy on validation and the loss in training; empty where none has it."""
    keys = {"val/top1": "validation top-1, %", "train/loss": "training loss"}
    found = {
        title: [curve(row.done or row.runs, key, row.label, i) for i, row in enumerate(rows)]
        for key, title in keys.items()
    }
    return {title: kept for title, curves in found.items() if (kept := [c for c in curves if c.x])}


def costs(lines: Sequence[Line], slots: Mapping[str, int]) -> dict[str, list[Point]]:
    """Accuracy against what a network costs; ``slots`` are the colours, by a line's name."""
    prices: dict[str, Callable[[Line], float | None]] = {
        "parameters": lambda line: line.parameters,
        "multiply-adds": lambda line: line.multiply_adds,
        "latency on the CPU, ms": lambda line: line.latency and 1000 * line.latency,
    }
    return {
        title: [
            Point(line.row.label, price, top1.mean, top1.std or 0.0, slots[line.row.name])
            for line in lines
            if (price := of(line)) and (top1 := line.figures.get("top1"))
        ]
        for title, of in prices.items()
    }
