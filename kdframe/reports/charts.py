"""Where lines, points and ticks of a chart lie, in the units of an SVG's viewBox.

What is drawn is in ``charts.html.j2``; colours and type are in ``page.css``.
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from kdframe.reports.calibration import Reliability

WIDTH, HEIGHT = 400, 264
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38  # margins
SLOTS = 8  # colours; more series take them again, dashed
BLUE, RED = (33, 102, 172), (178, 24, 43)  # the ends of a diverging scale, told apart by all


@dataclass(frozen=True)
class Curve:
    """A number over the epochs; ``spread`` is its standard deviation, 0 where there is one run."""

    label: str
    x: list[float]
    y: list[float]
    spread: list[float]
    slot: int = 0


@dataclass(frozen=True)
class Point:
    """A network: what it costs, and how good it is."""

    label: str
    x: float
    y: float
    spread: float = 0.0
    slot: int = 0


@dataclass(frozen=True)
class Scale:
    """From values to places, and the ticks between."""

    place: Callable[[float], float]
    ticks: list[tuple[float, str]]  # place, label


def scale(
    values: Sequence[float], start: float, end: float, log: bool = False, pad: float = 0.0
) -> Scale:
    """Over the values' range, from ``start`` to ``end``; ``pad`` is a part of it on both sides."""
    forward: Callable[[float], float] = math.log10 if log else float
    low, high = forward(min(values)), forward(max(values))
    if low == high:
        low, high = low - 0.5, high + 0.5
    low, high = low - pad * (high - low), high + pad * (high - low)

    def place(value: float) -> float:
        return round(start + (forward(value) - low) / (high - low) * (end - start), 1)

    marks = decades(low, high) if log else steps(low, high)
    return Scale(place, [(place(mark), short(mark)) for mark in marks])


def steps(low: float, high: float, count: int = 5) -> list[float]:
    """About that many round numbers in a range."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Round numbers of a range of logarithms: 1, 2, 5 of each power of ten, or fewer."""
    factors: tuple[int, ...] = (1, 2, 5) if high - low < 2.5 else (1,)
    skip = max(1, math.ceil((high - low) / 6))
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks = [f * 10.0**n for n in powers if n % skip == 0 for f in factors]
    return [m for m in marks if low - 1e-9 <= math.log10(m) <= high + 1e-9]


def short(value: float) -> str:
    """1.5M, 20k, 0.05."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if letter == "k" else size
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def thinned(curve: Curve, most: int) -> Curve:
    """At most that many of its points, the ends among them."""
    if len(curve.x) <= most:
        return curve
    picked = sorted({round(i * (len(curve.x) - 1) / (most - 1)) for i in range(most)})
    x, y, spread = ([column[i] for i in picked] for column in (curve.x, curve.y, curve.spread))
    return Curve(curve.label, x, y, spread, curve.slot)


def line_chart(curves: Sequence[Curve], log: bool = False, most: int = 200) -> dict[str, Any]:
    """Curves of at most that many points, with their bands; a logarithmic axis where asked for and
    possible.

    Returns:
        Of a template: ticks, ``series`` (label, slot, line, band) and ``data``, what hovering says.
    """
    curves = [thinned(curve, most) for curve in curves if curve.x]
    log = log and all(y > 0 for curve in curves for y in curve.y)
    across = scale([x for curve in curves for x in curve.x], LEFT, WIDTH - RIGHT)
    edges = [
        edge
        for curve in curves
        for y, s in zip(curve.y, curve.spread, strict=True)
        for edge in ((y, y) if log else (y - s, y + s))
    ]
    up = scale(edges, HEIGHT - BOTTOM, TOP, log, pad=0.04)
    series = [
        {
            "label": curve.label,
            "slot": curve.slot,
            "line": path(curve.x, curve.y, across, up),
            "band": band(curve, across, up, log),
            "dots": len(curve.x) == 1,
            "x": across.place(curve.x[-1]),
            "y": up.place(curve.y[-1]),
        }
        for curve in curves
    ]
    every = sorted({x for curve in curves for x in curve.x})
    data = {
        "x": every,
        "left": across.place(min(x for curve in curves for x in curve.x)),
        "right": across.place(max(x for curve in curves for x in curve.x)),
        "series": [
            {
                "label": curve.label,
                "slot": curve.slot,
                **({} if curve.x == every else {"x": curve.x}),
                "y": [float(f"{y:.4g}") for y in curve.y],
                "s": [float(f"{s:.2g}") for s in curve.spread] if any(curve.spread) else [],
            }
            for curve in curves
        ],
    }
    return {**frame(across, up), "series": series, "data": data}


def frame(across: Scale, up: Scale) -> dict[str, Any]:
    """Size, margins and ticks of any chart."""
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP,
        "bottom": HEIGHT - BOTTOM, "x_ticks": across.ticks, "y_ticks": up.ticks,
    }  # fmt: skip


def path(x: Sequence[float], y: Sequence[float], across: Scale, up: Scale) -> str:
    """An SVG path through points."""
    places = [f"{across.place(a):g} {up.place(b):g}" for a, b in zip(x, y, strict=True)]
    return f"M{'L'.join(places)}"


def band(curve: Curve, across: Scale, up: Scale, log: bool) -> str:
    """The area of one standard deviation on both sides, as far as it is in the frame."""
    if not any(curve.spread):
        return ""
    pairs = list(zip(curve.y, curve.spread, strict=True))
    high, low = [y + s for y, s in pairs], [y - s for y, s in pairs]
    bottom = HEIGHT - BOTTOM

    def place(value: float) -> float:
        return bottom if log and value <= 0 else min(max(up.place(value), TOP), bottom)

    framed = Scale(place, [])
    lower = path(curve.x[::-1], low[::-1], across, framed)[1:]
    return f"{path(curve.x, high, across, framed)}L{lower}Z"


def scatter(points: Sequence[Point], log: bool = True) -> dict[str, Any]:
    """Points with error bars over a logarithmic axis."""
    across = scale([p.x for p in points], LEFT, WIDTH - RIGHT, log, pad=0.08)
    edges = [edge for p in points for edge in (p.y - p.spread, p.y + p.spread)]
    up = scale(edges, HEIGHT - BOTTOM, TOP, pad=0.08)
    marks = [
        {
            "point": p,
            "x": across.place(p.x),
            "y": up.place(p.y),
            "low": up.place(p.y - p.spread),
            "high": up.place(p.y + p.spread),
        }
        for p in points
    ]
    return {**frame(across, up), "marks": marks}


def bars(values: Sequence[tuple[str, float]], among: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Labelled bars from 0 to the left and to the right, one below the other, on one scale with
    those ``among`` which they are.
    """
    row, left = 16, 96
    across = scale([0.0, *(value for _, value in among)], left, WIDTH - 44)
    return {
        "width": WIDTH,
        "height": row * len(values) + 24,
        "zero": across.place(0),
        "label": left - 8,
        "x_ticks": across.ticks,
        "bars": [
            {
                "label": label,
                "value": value,
                "y": row * i,
                "x": min(across.place(value), across.place(0)),
                "width": round(abs(across.place(value) - across.place(0)), 1),
            }
            for i, (label, value) in enumerate(values)
        ],
    }


def diagram(bins: Reliability, ece: float) -> dict[str, Any]:
    """A reliability diagram as paths: bars up to the accuracy, and the gaps to the confidence."""
    side, n = 200, len(bins.count)
    width = round(side / n - 1.4, 1)
    found: dict[str, Any] = {"side": side, "ece": ece, "bins": []}
    paths: dict[str, list[str]] = {name: [] for name in ("accuracy", "over", "under", "level")}
    for i, (count, c, a) in enumerate(zip(bins.count, bins.confidence, bins.accuracy, strict=True)):
        if not count:
            continue
        confidence, accuracy = c / count, a / count
        x, low, high = round(side * i / n + 0.7, 1), min(c, a) / count, max(c, a) / count
        paths["accuracy"].append(block(x, width, 0.0, low, side))
        paths["over" if c > a else "under"].append(block(x, width, low, high, side))
        paths["level"].append(f"M{x:g} {side * (1 - accuracy):.1f}h{width:g}")
        found["bins"].append(
            {"x": x, "width": width, "count": count, "confidence": confidence, "accuracy": accuracy}
        )
    return {**found, **{name: "".join(parts) for name, parts in paths.items()}}


def block(x: float, width: float, low: float, high: float, side: int) -> str:
    """A filled rectangle between two parts of a side, as a piece of a path."""
    return f"M{x:g} {side * (1 - high):.1f}h{width:g}v{side * (high - low):.1f}h{-width:g}z"


def picture(square: Sequence[Sequence[float]], limit: float) -> str:
    """A map of values from -limit (blue) over 0 (white) to limit (red), as a data URI of a PNG."""
    levels = np.clip(np.asarray(square, dtype=float) / (limit or 1.0), -1, 1)
    end = np.where(levels[..., None] < 0, BLUE, RED)
    colours = 255 + np.abs(levels)[..., None] * (end - 255.0)
    image = Image.fromarray(colours.round().astype(np.uint8), "RGB")
    file = io.BytesIO()
    image.quantize(255, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def packed(square: Sequence[Sequence[float]], limit: float) -> str:
    """The values in steps of limit/127, a signed byte each, in base64: what hovering says."""
    steps_of = np.clip(np.asarray(square, dtype=float) / (limit or 1.0), -1, 1) * 127
    return base64.b64encode(steps_of.round().astype(np.int8).tobytes()).decode()


def smaller(square: Sequence[Sequence[float]], side: int) -> list[list[float]]:
    """A square map of at most ``side`` rows: means of neighbours."""
    full = np.asarray(square, dtype=float)
    if len(full) <= side:
        return full.tolist()  # type: ignore[no-any-return]
    edges = np.array([i * len(full) // side for i in range(side + 1)])
    sums = np.add.reduceat(np.add.reduceat(full, edges[:-1], 0), edges[:-1], 1)
    counts = np.diff(edges)
    return (sums / np.outer(counts, counts)).tolist()  # type: ignore[no-any-return]
