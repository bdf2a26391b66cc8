"""The panels of a page, in as much detail as the page has room for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kdframe.reports import tables
from kdframe.reports.charts import bars, diagram, line_chart, packed, picture, smaller
from kdframe.reports.comparison import Line
from kdframe.reports.panels import Panel

CELL = 2.9  # bytes of one, at most: a PNG's and a value's in base64
WIDEST = 128  # classes of a map on the page
RANGE = " \u2026 "


@dataclass(frozen=True)
class Detail:
    """At most so much: points of a curve, bars and diagrams of a panel, bytes of maps, panels."""

    points: int
    bars: int
    maps: int
    panels: int
    diagrams: int


def details_of(
    shown: Sequence[Panel], found: Sequence[Line], slots: Mapping[str, int], detail: Detail
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Every panel for the template, and the lists of classes that maps refer to."""
    classes: dict[str, list[str]] = {}
    maps = sum(len(panel.maps) for panel in shown)
    side = min(WIDEST, int((detail.maps / CELL / max(maps, 1)) ** 0.5))
    by_name = {line.row.name: line for line in found}
    return [
        {
            **of_panel(panel, slots[panel.row.name], detail),
            "id": f"row{i}",
            "line": in_short(by_name[panel.row.name]),
            "maps": maps_of(panel, side, classes),
        }
        for i, panel in enumerate(shown)
    ], classes


def in_short(line: Line) -> str:
    """What a closed panel says."""
    parts = [f"{line.figures['top1'].mean:.2f} %"] if "top1" in line.figures else []
    if line.difference is not None:
        parts.append(f"{tables.signed(line.difference.mean)} points")
    if "agreement" in line.figures:
        parts.append(f"{line.figures['agreement'].mean:.1f} % agreement")
    return " \u00b7 ".join(parts)


def of_panel(panel: Panel, slot: int, detail: Detail) -> dict[str, Any]:
    """A panel without its maps."""
    term_slots = {curve.label: curve.slot for curve in panel.terms}
    for moment in panel.moments:
        for name in moment.terms:
            term_slots.setdefault(name, len(term_slots))
    chosen, left = panel.gains, panel.gains[:0]
    if len(chosen) > detail.bars:
        half = detail.bars // 2
        chosen, left = [*chosen[:half], *chosen[-half:]], chosen[half:-half]
    middle = (len(chosen) + 1) // 2
    parts = [part for part in (chosen[:middle], chosen[middle:]) if part]
    return {
        "label": panel.row.label,
        "slot": slot,
        "formula": formula(panel),
        "warnings": panel.warnings,
        "terms": line_chart(panel.terms, True, detail.points) if panel.terms else None,
        "term_legend": list(term_slots.items()),
        "term_slots": term_slots,
        "moments": panel.moments if len(term_slots) > 1 else [],
        "gradients": tables.gradients(panel.moments, term_slots),
        "batches": panel.batches,
        "diagrams": {
            who: diagram(panel.diagrams[who], panel.ece[who])
            for who in [*panel.diagrams][: detail.diagrams]
        },
        "cka": panel.cka,
        "shapes": panel.shapes,
        "against": panel.against,
        "gains": [
            (bars(part, panel.gains), name)
            for part, name in zip(parts, ("The most gained", "The least"), strict=False)
        ],
        "left_out": len(left),
        "between": f"{tables.signed(left[-1][1])} and {tables.signed(left[0][1])}" if left else "",
    }


def formula(panel: Panel) -> str:
    """The loss, as the console says it."""
    return next((run.analysis["about"]["loss"] for run in panel.row.done if run.analysis), "")


def maps_of(panel: Panel, side: int, classes: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The maps of one panel on one scale."""
    squares = {who: smaller(square, side) for who, square in panel.maps.items()}
    limit = max((abs(x) for s in squares.values() for row in s for x in row), default=0.0)
    found = []
    for who, square in squares.items():
        names = grouped(grouped(panel.classes, len(panel.maps[who])), len(square))
        key = next((key for key, known in classes.items() if known == names), "")
        if not key:
            key = f"classes{len(classes)}"
            classes[key] = names
        cells = [
            abs(x) for i, row in enumerate(panel.maps[who]) for j, x in enumerate(row) if i != j
        ]
        found.append({
            "label": who, "side": len(square), "limit": round(limit, 4), "classes": key,
            "uri": picture(square, limit), "bytes": packed(square, limit),
            "mean": sum(cells) / max(len(cells), 1), "narrowed": len(square) < len(panel.classes),
        })  # fmt: skip
    return found


def grouped(names: list[str], count: int) -> list[str]:
    """The names of that many groups of neighbours, as ``smaller`` makes them."""
    if len(names) <= count:
        return names
    edges = [i * len(names) // count for i in range(count + 1)]
    return [
        names[a].split(RANGE)[0] + RANGE + names[b - 1].split(RANGE)[-1] for a, b in pairwise(edges)
    ]
