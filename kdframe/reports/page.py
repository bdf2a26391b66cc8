"""One HTML file that shows a run or a study: no network, no library, at most 1 MB."""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdframe import __version__
from kdframe.reports import tables
from kdframe.reports.charts import bars, line_chart, packed, picture, scatter, short, smaller
from kdframe.reports.comparison import Line, lines
from kdframe.reports.panels import Panel, costs, learning_curves, panels
from kdframe.reports.runs import Row, Study

HERE = Path(__file__).parent
FOR_MAPS = 400_000  # bytes, of a page that takes at most a million
CELL = 2.9  # bytes of one, at most: a PNG's and a value's in base64
WIDEST = 128  # classes of a map on the page
MOST_BARS = 40  # classes with a bar
RANGE = " \u2026 "


def html(study: Study, reference_rows: Sequence[Row] = ()) -> str:
    """The page.

    Args:
        study: with its runs' analyses, as far as there are any.
        reference_rows: more rows for the learning curves: of a run alone, its recipes.
    """
    script, style = (HERE / "page.js").read_text(), (HERE / "page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"short": short, "cut": cut, "signed": tables.signed}
    return environment.get_template("page.html.j2").render(
        script=script, style=style, script_hash=digest, version=__version__,
        now=time.strftime("%F"), **contents(study, reference_rows),
    )  # fmt: skip


def write(study: Study, reference_rows: Sequence[Row], folder: Path) -> Path:
    """Writes ``report.html`` into a folder, which is made if need be.

    Raises:
        OSError: it can't be written; a page that was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    temporary = folder / ".report.html.tmp"
    temporary.write_text(html(study, reference_rows), encoding="utf-8")
    temporary.replace(path)
    return path


def cut(text: str, length: int) -> str:
    """At most that many letters."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def contents(study: Study, reference_rows: Sequence[Row]) -> dict[str, Any]:
    """All that the template asks for."""
    found, shown = lines(study), panels(study)
    drawn = [*study.rows, *reference_rows]
    slots = {row.name: i for i, row in enumerate(drawn)}
    for line in found:
        slots.setdefault(line.row.name, len(slots))
    labels = {row.name: row.label for row in study.rows}
    curves = {name: line_chart(c, "loss" in name) for name, c in learning_curves(drawn).items()}
    prices = {name: scatter(p) for name, p in costs(found, slots).items() if p}
    alike = tables.likeness(found, slots)
    runs = [run for row in study.rows for run in row.runs]
    analysed = [run.analysis for run in runs if run.analysis]
    details, classes = details_of(shown, found, slots)
    sections = {
        "results": "Results", "curves": "Learning curves" if curves else "",
        "costs": "Cost" if prices else "", "likeness": "Likeness" if alike.rows else "",
        "rows": "Detail" if details else "", "provenance": "Provenance",
    }  # fmt: skip
    return {
        "title": study.name,
        "single": study.single,
        "several": any(len(row.runs) > 1 for row in study.rows),
        "dataset": ", ".join({said["about"]["dataset"]: None for said in analysed}),
        "lead": lead(study, found),
        "cards": list(cards(study, found)),
        "warnings": list(warnings(study, shown)),
        "sections": [(id_, name) for id_, name in sections.items() if name],
        "results": tables.results(found, slots, labels),
        "curves": list(curves.items()),
        "legend": legend(drawn, slots) if curves else [],
        "costs": list(prices.items()),
        "price_legend": legend([line.row for line in found if line.parameters], slots),
        "threads": next((said["latency"]["threads"] for said in analysed), 0),
        "likeness": alike if alike.rows else None,
        "images": f"{max((said['images'] for said in analysed), default=0):,}",
        "panels": details,
        "classes": classes,
        "provenance": tables.provenance(study),
        "versions": versions(study),
    }


def legend(rows: Sequence[Row], slots: Mapping[str, int]) -> list[tuple[str, int]]:
    """Labels with their colours."""
    return [(row.label, slots[row.name]) for row in rows]


def best_of(study: Study, found: Sequence[Line]) -> Line | None:
    """The row of the highest mean top-1 that is compared with something, or any."""
    rows = [line for line in found if line.row.kind == "row" and "top1" in line.figures]
    compared = [line for line in rows if line.difference] or rows
    return max(compared, key=lambda line: line.figures["top1"].mean, default=None)


def lead(study: Study, found: Sequence[Line]) -> str:
    """The answer in a sentence."""
    best = best_of(study, found)
    if best is None:
        return "No run is finished yet."
    who = "" if study.single else f"{best.row.label} is ahead: "
    said = f"{who}{best.figures['top1'].mean:.2f} % of the test images"
    if best.difference is not None:
        base = next((row.label for row in study.rows if row.name == best.row.baseline), "")
        said += f", {tables.signed(best.difference.mean)} points over {base or 'the student alone'}"
    teacher = next((line for line in found if line.row.kind == "teacher"), None)
    if teacher is not None:
        gap = best.figures["top1"].mean - teacher.figures["top1"].mean
        said += f" and {tables.signed(gap)} to its teacher"
    return f"{said}."


def cards(study: Study, found: Sequence[Line]) -> Iterator[dict[str, str]]:
    """A few figures in large."""
    best = best_of(study, found)
    if best is None:
        return
    of = "" if study.single else best.row.label
    top1, seeds = best.figures["top1"], best.figures["top1"].n
    spread = f"\u00b1 {top1.std:.2f} over {seeds} seeds" if top1.std is not None else ""
    yield card("test top-1", f"{top1.mean:.2f}", "%", ", ".join(filter(None, (of, spread))))
    if best.difference is not None:
        said = best.difference
        note = f"better in {said.better} of {said.n} seed{'s' * (said.n > 1)}"
        if said.half is not None:
            note += f", 95 % \u00b1 {said.half:.2f}"
        yield card("gain", tables.signed(said.mean), "points", note)
    if "agreement" in best.figures:
        yield card("agreement", f"{best.figures['agreement'].mean:.1f}", "%", "with the teacher")
    teacher = next((line for line in found if line.row.kind == "teacher"), None)
    if teacher is not None and best.parameters and teacher.parameters:
        ratio = teacher.parameters / best.parameters
        size = short(best.parameters)
        yield card("smaller", f"{ratio:.3g}", "\u00d7", f"{size} parameters of a teacher's "
                   f"{short(teacher.parameters)}")  # fmt: skip
    yield card("ECE", f"{best.figures['ece'].mean:.3f}", "", "15 bins")


def card(name: str, value: str, unit: str, note: str) -> dict[str, str]:
    """One of them."""
    return {"name": name, "value": value, "unit": unit, "note": note}


def warnings(study: Study, shown: Sequence[Panel]) -> Iterator[tuple[str, str]]:
    """Where and what: terms that do nothing, runs that aren't done, what wasn't measured."""
    for panel in shown:
        for sentence in panel.warnings:
            yield panel.row.label, sentence
    for row in study.rows:
        if not row.runs:
            yield row.label, "no run of it has begun."
        for run in row.runs:
            where = row.label if study.single else f"{row.label}, seed {run.seed}"
            if not run.done:
                error = str(run.about.get("error", ""))
                yield where, f"not finished ({run.state}{f': {error}' if error else ''})."
            for note in (*run.notes, *run.analysis.get("notes", [])):
                yield where, note


def versions(study: Study) -> list[tuple[str, str]]:
    """Of kdframe, Python, libraries and git; several where runs differ."""
    found: dict[str, dict[str, None]] = {}
    for run in (run for row in study.rows for run in row.runs):
        about = run.about
        said = {"kdframe": about.get("kdframe"), "python": about.get("python")}
        said |= {**about.get("versions", {}), "git": about.get("git")}
        for name, version in said.items():
            if version:
                found.setdefault(name, {})[str(version)] = None
    return [(name, ", ".join(seen)) for name, seen in found.items()]


def details_of(
    shown: Sequence[Panel], found: Sequence[Line], slots: Mapping[str, int]
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Every panel for the template, and the lists of classes that maps refer to."""
    classes: dict[str, list[str]] = {}
    maps = sum(len(panel.maps) for panel in shown)
    side = min(WIDEST, int((FOR_MAPS / CELL / max(maps, 1)) ** 0.5))
    by_name = {line.row.name: line for line in found}
    return [
        {
            **detail(panel, slots[panel.row.name]),
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


def detail(panel: Panel, slot: int) -> dict[str, Any]:
    """A panel without its maps."""
    term_slots = {curve.label: curve.slot for curve in panel.terms}
    for moment in panel.moments:
        for name in moment.terms:
            term_slots.setdefault(name, len(term_slots))
    chosen, left = panel.gains, panel.gains[:0]
    if len(chosen) > MOST_BARS:
        half = MOST_BARS // 2
        chosen, left = [*chosen[:half], *chosen[-half:]], chosen[half:-half]
    middle = (len(chosen) + 1) // 2
    parts = [part for part in (chosen[:middle], chosen[middle:]) if part]
    return {
        "label": panel.row.label,
        "slot": slot,
        "formula": formula(panel),
        "warnings": panel.warnings,
        "terms": line_chart(panel.terms, log=True) if panel.terms else None,
        "term_legend": list(term_slots.items()),
        "term_slots": term_slots,
        "moments": panel.moments if len(term_slots) > 1 else [],
        "gradients": tables.gradients(panel.moments, term_slots),
        "batches": panel.batches,
        "diagrams": panel.diagrams,
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
