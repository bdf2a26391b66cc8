"""A picture of a training's losses and accuracy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from kdframe.reports.pictures import save

History = Sequence[Mapping[str, float]]


def draw(history: History, path: Path) -> None:
    """Draws loss, terms and validation accuracy over the epochs, to a PNG.

    Args:
        history: an epoch's numbers each: "epoch", "train/loss", "train/<term>" and, where a
            validation split is held out, "val/top1" in percent.
        path: overwritten.
    """
    panels = 2 if any("val/top1" in row for row in history) else 1
    figure = Figure(figsize=(5 * panels, 3.6), dpi=150, layout="constrained")
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    draw_losses(axes[0], history)
    if panels == 2:
        plot(axes[1], history, "val/top1")
        axes[1].set_ylabel("validation accuracy, top 1 (%)")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    save(figure, path)


def draw_losses(axis: Axes, history: History) -> None:
    """On a logarithmic axis where it can be: terms may be orders of magnitude apart."""
    names = dict.fromkeys(name for row in history for name in row if name.startswith("train/"))
    for name in names:
        if name != "train/loss":
            plot(axis, history, name, label=name.removeprefix("train/"))
    plot(axis, history, "train/loss", label="weighted sum", color="black", linestyle="--")
    if all(row[name] > 0 for row in history for name in names if name in row):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("training loss, mean over the epoch")
    axis.legend(frameon=False)


def plot(
    axis: Axes,
    history: History,
    name: str,
    label: str = "",
    color: str | None = None,
    linestyle: str = "-",
) -> None:
    """Draws one number of the epochs that have it."""
    rows = [row for row in history if name in row]
    axis.plot(
        [row["epoch"] for row in rows],
        [row[name] for row in rows],
        label=label,
        color=color,
        linestyle=linestyle,
        marker="." if len(rows) < 30 else "",
    )
