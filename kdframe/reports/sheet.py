"""A sheet of images with their labels: originals beside what training sees of them."""

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

INCH = 0.9  # of an image's side on the sheet
GAP = 0.14  # of a side, between the images of one group
BETWEEN = 0.45  # of a side, between groups
LINE = 0.17  # inches, of a label
TOP = 0.95  # inches, of the title
ACROSS = 12  # images in a row, about
LONG = 18  # letters of a label on a narrow group
LEAST = 6.8  # inches, of the sheet
EDGE = "#2a6f97"  # of an original's frame


def draw(
    views: Mapping[str, Tensor], labels: Sequence[str], items: Sequence[int], title: str, note: str
) -> bytes:
    """The sheet as a PNG.

    Args:
        views: uint8 images (N, 3, H, W) by a column's title; a group is a row of each, side by
            side.
        labels: what stands above each group, beside its number of ``items``.
        items: the number of each image in its split.
        title: the sheet's.
        note: a smaller line below it.
    """
    columns = list(views)
    count, _, H, W = next(iter(views.values())).shape
    tall = INCH * H / W
    wide = len(columns) * INCH + (len(columns) - 1) * GAP * INCH
    across = min(count, max(1, ACROSS // len(columns), math.ceil(6 / wide)))
    down = math.ceil(count / across)
    heads = 2.2 * LINE if len(columns) > 1 else 0.0
    step_x, step_y = wide + BETWEEN * INCH, tall + 1.9 * LINE
    width = max(LEAST, across * step_x + BETWEEN * INCH)
    height = TOP + heads + down * step_y + 0.25
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")

    def at(x: float, y: float) -> tuple[float, float]:
        return x / width, 1 - y / height

    left = BETWEEN * INCH
    figure.text(*at(left, 0.38), title, fontsize=12, fontweight="bold", va="center")
    figure.text(*at(left, 0.66), note, fontsize=8, color="#555555", va="center")
    for number in range(count):
        row, column = divmod(number, across)
        x, y = left + column * step_x, TOP + heads + row * step_y
        label = labels[number] if len(labels[number]) <= LONG else f"{labels[number][: LONG - 1]}…"
        figure.text(*at(x, y + 0.55 * LINE), label, fontsize=8, fontweight="bold", va="center")
        figure.text(
            *at(x + wide, y + 0.55 * LINE), str(items[number]), fontsize=6, color="#888888",
            va="center", ha="right",
        )  # fmt: skip
        for place, name in enumerate(columns):
            start = x + place * INCH * (1 + GAP)
            lower = at(start, y + 1.25 * LINE + tall)
            axis = figure.add_axes((*lower, INCH / width, tall / height))
            axis.imshow(views[name][number].permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                framed = len(columns) > 1 and place == 0
                spine.set(color=EDGE if framed else "#cccccc", linewidth=1.4 if framed else 0.5)
            if row == 0 and heads:
                figure.text(
                    *at(start + INCH / 2, TOP + 0.7 * LINE), name.replace(", ", "\n"), fontsize=6.5,
                    color=EDGE if place == 0 else "#333333", ha="center", va="center",
                )  # fmt: skip
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
