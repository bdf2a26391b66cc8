"""One HTML file that shows a run or a study: no network, no library, at most 1 MB."""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdframe import __version__, writing
from kdframe.reports import tables
from kdframe.reports.charts import line_chart, scatter, short
from kdframe.reports.comparison import Line, cost_of, lines
from kdframe.reports.detail import Detail, details_of
from kdframe.reports.panels import Panel, costs, learning_curves, panels
from kdframe.reports.runs import Row, Study

HERE = Path(__file__).parent
LARGEST = 1_000_000  # bytes
DETAIL = (  # in full; then, until the page is small enough, less
    Detail(points=200, bars=40, maps=400_000, panels=1000, diagrams=3),
    Detail(points=60, bars=20, maps=200_000, panels=1000, diagrams=3),
    Detail(points=40, bars=10, maps=100_000, panels=40, diagrams=1),
    Detail(points=40, bars=10, maps=100_000, panels=12, diagrams=1),
    Detail(points=24, bars=10, maps=50_000, panels=4, diagrams=1),
)


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
    template = environment.get_template("page.html.j2")
    text = ""
    for detail in DETAIL:
        text = template.render(
            script=script, style=style, script_hash=digest, version=__version__,
            now=time.strftime("%F"), **contents(study, reference_rows, detail),
        )  # fmt: skip
        if len(text.encode()) < LARGEST:
            break
    return text


def write(study: Study, reference_rows: Sequence[Row], folder: Path) -> Path:
    """Writes ``report.html`` into a folder, which is made if need be.

    Raises:
        OSError: it can't be written; a page that was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    writing.write_text(path, html(study, reference_rows))
    return path


def cut(text: str, length: int) -> str:
    """At most that many letters."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def contents(study: Study, reference_rows: Sequence[Row], detail: Detail) -> dict[str, Any]:
    """All that the template asks for."""
    found, shown = lines(study), panels(study)
    drawn = [*study.rows, *reference_rows]
    slots = {row.name: i for i, row in enumerate(drawn)}
    for line in found:
        slots.setdefault(line.row.name, len(slots))
    labels = {row.name: row.label for row in study.rows}
    curves = {
        name: line_chart(c, "loss" in name, detail.points)
        for name, c in learning_curves(drawn).items()
    }
    prices = {name: scatter(p) for name, p in costs(found, slots).items() if p}
    alike = tables.likeness(found, slots)
    runs = [run for row in study.rows for run in row.runs]
    analysed = [run.analysis for run in runs if run.analysis]
    details, classes = details_of(shown[: detail.panels], found, slots, detail)
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
        "hidden": [panel.row.label for panel in shown[detail.panels :]],
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
        done = any(row.done for row in study.rows)
        return "No run has read the test split." if done else "No run is finished yet."
    who = "" if study.single else f"{best.row.label} is ahead: "
    said = f"{who}{best.figures['top1'].mean:.2f} % of the test images"
    if best.difference is not None:
        base = next((row.label for row in study.rows if row.name == best.row.baseline), "")
        said += f", {tables.signed(best.difference.mean)} points over {base or 'the student alone'}"
        if best.difference.n > 1 and not best.difference.told_apart:
            said += " (not told apart)"
    gaps = [
        run.results["test"]["top1"] - run.results["teacher"]["top1"]
        for run in best.row.done
        if "teacher" in run.results
    ]
    if gaps:
        said += f" and {tables.signed(fmean(gaps))} to its teacher"
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
    teacher = next((cost for run in best.row.done if (cost := cost_of(run, "teacher"))), None)
    if teacher is not None and best.parameters:
        ratio = teacher["parameters"] / best.parameters
        size = short(best.parameters)
        yield card("smaller", f"{ratio:.3g}", "\u00d7", f"{size} parameters of its teacher's "
                   f"{short(teacher['parameters'])}")  # fmt: skip
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
