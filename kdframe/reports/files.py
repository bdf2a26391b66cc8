"""The pictures of a report as files, by matplotlib: PNG to look at, SVG to print."""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kdframe import writing
from kdframe.reports.calibration import Reliability
from kdframe.reports.charts import BLUE, RED, SLOTS, Curve, Point, short
from kdframe.reports.comparison import lines
from kdframe.reports.panels import Moment, Panel, Square, costs, learning_curves, panels
from kdframe.reports.pictures import save
from kdframe.reports.runs import Row, Study

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0559a", "#b98200", "#3f9fd0", "#6a51a3", "#52595f")
DIVERGING = LinearSegmentedColormap.from_list(
    "blue-red", [tuple(c / 255 for c in end) for end in (BLUE, (255, 255, 255), RED)]
)
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "kdframe",  # the same bytes for the same runs
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name is no formula, whatever dollars are in it
}
UNSIGNED = {"png": {"Software": None}, "svg": {"Date": None}}  # no program's name, no date
MOST_BARS = 60

T = TypeVar("T")


def write(study: Study, references: Sequence[Row], folder: Path) -> list[Path]:
    """Draws everything that the page shows, each as PNG and SVG, and the gains by class as CSV.

    Raises:
        OSError: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = panels(study)
    paths = []
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")  # a class in another script
        for name, figure in figures(study, references, shown):
            for kind, unsigned in UNSIGNED.items():
                paths.append(folder / f"{name}.{kind}")
                save(figure, paths[-1], dpi=150, metadata=unsigned)
    if any(panel.gains for panel in shown):
        paths.append(write_gains(shown, folder / "classes.csv"))
    return paths


def write_gains(shown: Sequence[Panel], path: Path) -> Path:
    """A line for each row and class."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "class", "gain"])
    for panel in shown:
        table.writerows((panel.row.name, name, f"{gain:.4f}") for name, gain in panel.gains)
    writing.write_text(path, text.getvalue())
    return path


def figures(
    study: Study, references: Sequence[Row], shown: Sequence[Panel]
) -> Iterator[tuple[str, Figure]]:
    """Names of files and what is in them."""
    drawn, found = [*study.rows, *references], lines(study)
    curves = learning_curves(drawn)
    if curves:
        yield "curves", side_by_side(curves, draw_curves)
    slots = {row.name: i for i, row in enumerate(drawn)}
    for line in found:
        slots.setdefault(line.row.name, len(slots))
    prices = {title: points for title, points in costs(found, slots).items() if points}
    if prices:
        yield "costs", side_by_side(prices, draw_points)
    for panel in shown:
        of = "" if study.single else f"_{re.sub(r'[^A-Za-z0-9-]', '-', panel.row.name)}"
        if panel.terms:
            yield f"terms{of}", side_by_side({"mean over the epoch": panel.terms}, draw_terms)
        if panel.moments:
            yield f"gradients{of}", shares(panel.moments)
        if panel.gains:
            yield f"classes{of}", bars(panel.gains, f"points over {panel.against}")
        if panel.diagrams:
            titled = {f"{w}: ECE {panel.ece[w]:.3f}": d for w, d in panel.diagrams.items()}
            yield f"reliability{of}", side_by_side(titled, draw_reliability, width=3.2)
        if panel.maps:
            yield f"correlation{of}", maps(panel.maps)
        if panel.cka:
            yield f"cka{of}", cka(panel.cka)


def side_by_side(
    parts: Mapping[str, T], draw: Callable[[Axes, str, T], None], width: float = 5.0
) -> Figure:
    """A panel for each, with a legend below all where they have one."""
    figure = Figure(figsize=(width * len(parts), 3.9), layout="constrained")
    for i, (title, part) in enumerate(parts.items()):
        axis = figure.add_subplot(1, len(parts), i + 1)
        axis.grid(alpha=0.3)
        draw(axis, title, part)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False
        )
    return figure


def logarithmic(axis: Axis) -> None:
    """With ticks that are plain text."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def draw_curves(axis: Axes, title: str, curves: Sequence[Curve]) -> None:
    """Means over seeds, and a band of a standard deviation."""
    for curve in curves:
        x, y, s = map(np.asarray, (curve.x, curve.y, curve.spread))
        colour, dashed = COLOURS[curve.slot % SLOTS], curve.slot >= SLOTS
        marker = "." if len(x) == 1 else ""
        axis.plot(
            x, y, color=colour, linestyle="--" if dashed else "-", marker=marker, label=curve.label
        )
        axis.fill_between(x, y - s, y + s, color=colour, alpha=0.16, linewidth=0)
    axis.set_xlabel("epoch")
    axis.set_ylabel(title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if "loss" in title and all(y > 0 for curve in curves for y in curve.y):
        logarithmic(axis.yaxis)


def draw_terms(axis: Axes, title: str, curves: Sequence[Curve]) -> None:
    """On a logarithmic axis: terms may be orders of magnitude apart."""
    draw_curves(axis, title, curves)
    if all(y > 0 for curve in curves for y in curve.y):
        logarithmic(axis.yaxis)


def draw_points(axis: Axes, title: str, points: Sequence[Point]) -> None:
    """Accuracy over a cost, with a standard deviation."""
    for point in points:
        axis.errorbar(
            point.x, point.y, point.spread or None, fmt="s" if point.slot >= SLOTS else "o",
            color=COLOURS[point.slot % SLOTS], label=point.label,
        )  # fmt: skip
    logarithmic(axis.xaxis)
    axis.set_xlabel(title)
    axis.set_ylabel("test top-1, %")


def draw_reliability(axis: Axes, title: str, diagram: Reliability) -> None:
    """Accuracy by confidence, with the gap to the diagonal."""
    n = len(diagram.count)
    count = np.asarray(diagram.count)
    known = count > 0
    left = (np.arange(n) / n)[known]
    accuracy, confidence = (
        np.asarray(sums)[known] / count[known] for sums in (diagram.accuracy, diagram.confidence)
    )
    bottom = np.minimum(accuracy, confidence)
    axis.bar(left, accuracy, 1 / n, align="edge", color=COLOURS[0], edgecolor="white")
    axis.bar(
        left, abs(accuracy - confidence), 1 / n, bottom, align="edge", color=COLOURS[1], alpha=0.35,
        hatch="//", edgecolor=COLOURS[1], linewidth=0,
    )  # fmt: skip
    axis.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    axis.set_title(title, fontsize=10)


def bars(gains: Sequence[tuple[str, float]], title: str) -> Figure:
    """A bar a class; of very many, the ends."""
    half = MOST_BARS // 2
    kept = [*gains] if len(gains) <= MOST_BARS else [*gains[:half], *gains[-half:]]
    names, values = zip(*kept[::-1], strict=True)
    figure = Figure(figsize=(6, 1 + 0.17 * len(kept)), layout="constrained")
    axis = figure.add_subplot()
    axis.barh(range(len(kept)), values, color=[COLOURS[int(v < 0)] for v in values])
    axis.set_yticks(range(len(kept)), names, fontsize=7)
    axis.set_ylim(-0.6, len(kept) - 0.4)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.grid(alpha=0.3, axis="x")
    axis.set_xlabel(title)
    return figure


def shares(moments: Sequence[Moment]) -> Figure:
    """Each term's share of the student's gradient."""
    figure = Figure(figsize=(6, 1.3 + 0.45 * len(moments)), layout="constrained")
    axis = figure.add_subplot()
    names = list(dict.fromkeys(name for moment in moments for name in moment.terms))
    left = np.zeros(len(moments))
    for i, name in enumerate(names):
        part = np.array([100 * m.terms.get(name, {"share": 0.0})["share"] for m in moments])
        axis.barh(range(len(moments)), part, left=left, color=COLOURS[i % SLOTS], label=name)
        left += part
    axis.set_yticks(range(len(moments)), [moment.label for moment in moments])
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="% of the student's gradient")
    figure.legend(loc="outside upper center", ncols=min(len(names), 4), frameon=False)
    return figure


def maps(squares: Mapping[str, Square]) -> Figure:
    """The teacher's correlations minus a student's, on one scale."""
    limit = max(float(np.abs(square).max()) for square in squares.values()) or 1.0
    figure = Figure(figsize=(4.2 * len(squares) + 0.6, 4.2), layout="constrained")
    for i, (who, square) in enumerate(squares.items()):
        axis = figure.add_subplot(1, len(squares), i + 1)
        image = axis.imshow(square, cmap=DIVERGING, vmin=-limit, vmax=limit)
        axis.set_title(f"teacher - {who}", fontsize=10)
    figure.colorbar(image, ax=figure.axes, label="difference of correlations", shrink=0.8)
    return figure


def cka(square: Sequence[Sequence[float | None]]) -> Figure:
    """Stages of the student (down) with the teacher's (across)."""
    values = np.array([[np.nan if x is None else x for x in row] for row in square])
    figure = Figure(figsize=(4.4, 3.8), layout="constrained")
    axis = figure.add_subplot()
    image = axis.imshow(values, cmap="viridis", vmin=0, vmax=1)
    axis.set(xlabel="teacher's stage", ylabel="student's stage")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    if values.size <= 100:
        for (i, j), value in np.ndenumerate(values):
            colour = "black" if value > 0.6 else "white"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, label="linear CKA", shrink=0.8)
    return figure
