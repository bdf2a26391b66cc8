"""A picture of a search: which keys mattered, and what each value gave."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdframe.reports.pictures import save

WIDE = 10.0  # times from the least to the greatest; from there on an axis is logarithmic


def draw(
    importances: Mapping[str, float],
    trials: Sequence[tuple[Mapping[str, Any], float]],
    metric: str,
    path: Path,
) -> None:
    """Draws a bar a key, and for each key the metric against its values, to a PNG.

    Args:
        importances: by dotted key; they add up to 1.
        trials: settings by dotted key, and the metric.
        metric: its name.
        path: overwritten.
    """
    keys = list(importances)
    figure = Figure(figsize=(3.4 * (len(keys) + 1), 3.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(keys) + 1)
    shares = axes[0].barh(keys[::-1], [importances[key] for key in keys[::-1]])
    axes[0].bar_label(shares, fmt="%.2f", padding=3)
    axes[0].set_xlim(0, 1.25 * max(*importances.values(), 1e-9))
    axes[0].set_xlabel("importance (PED-ANOVA)")
    for axis, key in zip(axes[1:], keys, strict=True):
        plot(axis, [(settings[key], value) for settings, value in trials if key in settings])
        axis.set_xlabel(key)
        axis.grid(alpha=0.3)
    axes[1].set_ylabel(metric)
    save(figure, path)


def plot(axis: Axes, points: Sequence[tuple[Any, float]]) -> None:
    """The metric against a key's values; choices that are no numbers stand side by side."""
    values = [value for value, _ in points]
    if not all(isinstance(value, int | float) for value in values):
        values = [str(value) for value in values]
    elif min(values) > 0 and max(values) > WIDE * min(values):
        axis.set_xscale("log")
    axis.scatter(values, [result for _, result in points], s=14)
