"""A study's table: Markdown, CSV and JSON, each figure with the command and config behind it."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kdframe.reports.statistics import Paired, Spread, paired, spread
from kdframe.study.folder import ABOUT, owner
from kdframe.study.found import Found
from kdframe.study.written import Row, Study
from kdframe.writing import write_json, write_text

LAST, BEST = "test", "test_best"  # of results.json: the last weights, the best on validation
HASH = 12  # digits of a config's


@dataclass(frozen=True)
class Line:
    """One row of the table: top-1 of the test split in percent, over the seeds that are done.

    ``last`` is of the last weights, ``best`` of those that were best on validation; ``difference``
    is of ``last``, to the row ``row.baseline``.
    """

    row: Row
    last: Spread | None
    best: Spread | None
    difference: Paired | None
    parameters: int | None
    multiply_adds: int | None
    seconds: Spread | None


def lines(study: Study, found: Sequence[Found]) -> list[Line]:
    """The table, in the file's order."""
    by_row = {name: [one for one in found if one.run.row == name] for name in study.rows}
    last = {name: top1(ones, LAST) for name, ones in by_row.items()}
    table = []
    for name, row in study.rows.items():
        best = top1(by_row[name], BEST)
        seconds = [one.results["seconds"] for one in by_row[name] if one.results]
        costs = next((one.student for one in by_row[name] if one.student), {})
        compared = row.baseline and row.baseline != name
        table.append(
            Line(
                row=row,
                last=spread(list(last[name].values())) if last[name] else None,
                best=spread(list(best.values())) if best else None,
                difference=paired(last[name], last.get(row.baseline, {})) if compared else None,
                parameters=costs.get("parameters"),
                multiply_adds=costs.get("multiply_adds"),
                seconds=spread(seconds) if seconds else None,
            )
        )
    return table


def top1(found: Sequence[Found], which: str) -> dict[int, float]:
    """By seed, of the runs that are done and have it."""
    return {
        one.run.seed: one.results[which]["top1"]
        for one in found
        if one.results and which in one.results
    }


def verdict(line: Line) -> str:
    """In words, naming the baseline where it isn't the table's usual one."""
    if line.difference is None:
        return ""
    return line.difference.verdict().replace("the baseline", line.row.baseline)


HEADER = (
    "row", "test top-1 %, last", "best on validation", "n", "difference", "95 % CI", "p", "verdict",
    "parameters", "multiply-adds", "seconds a run",
)  # fmt: skip
PRINTED = tuple(name for name in HEADER if name != "verdict")
RUNS = ("row", "seed", "state", "last", "best", "seconds", "config", "command")


def cells(line: Line) -> list[str]:
    """A line as it is read."""
    difference = line.difference
    return [
        line.row.label,
        shown(line.last),
        shown(line.best),
        str(line.last.n if line.last else 0),
        f"{difference.mean:+.2f}" if difference else "",
        interval(difference),
        p_value(difference),
        verdict(line),
        f"{line.parameters:,}" if line.parameters else "",
        f"{line.multiply_adds:,}" if line.multiply_adds else "",
        f"{line.seconds.mean:,.0f}" if line.seconds else "",
    ]


def shown(values: Spread | None) -> str:
    """``85.21 +- 0.30``: mean and standard deviation."""
    if values is None:
        return "-"
    return f"{values.mean:.2f}" + (f" +- {values.std:.2f}" if values.std is not None else "")


def interval(difference: Paired | None) -> str:
    """``+2.10 to +4.30``."""
    if difference is None or difference.half is None:
        return ""
    low, high = difference.mean - difference.half, difference.mean + difference.half
    return f"{low:+.2f} to {high:+.2f}"


def p_value(difference: Paired | None) -> str:
    """To two digits."""
    if difference is None or difference.p is None:
        return ""
    return f"{difference.p:.2g}" if difference.p >= 1e-4 else "< 1e-4"


def run_cells(one: Found) -> list[str]:
    """A run: its figures, and what they come from."""
    results: Mapping[str, Any] = one.results or {}
    figures = [f"{results[w]['top1']:.2f}" if w in results else "" for w in (LAST, BEST)]
    return [
        one.run.row,
        str(one.run.seed),
        one.state,
        *figures,
        f"{results['seconds']:.1f}" if results else "",
        one.run.digest[:HASH],
        shlex.join(one.run.command()),
    ]


def markdown(study: Study, found: Sequence[Found]) -> str:
    """The whole report as a page."""
    table = [cells(line) for line in lines(study, found)]
    parts = [
        f"# {study.name}\n",
        f"Of {study.path}.  Top-1 of the test split in percent: mean and sample standard deviation "
        "over n seeds.\nDifferences are paired by seed and of the last weights; their interval and "
        "p-value are Student's t,\ntwo-sided, not corrected for the number of rows.\n",
        grid(HEADER, table),
    ]
    if remarks := notes(study, found):
        parts.append("".join(f"- {note}\n" for note in remarks))
    parts += ["## Every number\n", grid(RUNS, [run_cells(one) for one in found])]
    return "\n".join(parts)


def notes(study: Study, found: Sequence[Found]) -> list[str]:
    """What a reader of the table must know."""
    remarks = [
        f"{one.run.key}: no figures, its run is {one.state}" for one in found if not one.results
    ]
    if all(line.last is None or line.last.n == 1 for line in lines(study, found)):
        remarks.append("One seed a row shows nothing: the spread between seeds isn't known.")
    return remarks


def printed(study: Study, found: Sequence[Found]) -> list[str]:
    """The table as a console shows it, and each row's verdict below it."""
    table = Table(box=None, header_style="")
    for name in PRINTED:
        table.add_column(name, justify="left" if name == HEADER[0] else "right")
    rows = [dict(zip(HEADER, cells(line), strict=True)) for line in lines(study, found)]
    for row in rows:
        table.add_row(*(row[name] for name in PRINTED))
    text = io.StringIO()
    Console(file=text, width=140, markup=False, emoji=False).print(table)
    verdicts = [f" {row['row']}: {row['verdict']}" for row in rows if row["verdict"]]
    return [
        "",
        *(line.rstrip() for line in text.getvalue().splitlines()),
        "",
        *verdicts,
        *notes(study, found),
    ]


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |\n"
        for row in (header, rule, *rows)
    )


def comma_separated(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def as_dict(study: Study, found: Sequence[Found]) -> dict[str, Any]:
    """All of it, for other programs: rows by name, each with its runs."""
    rows = {}
    for line in lines(study, found):
        difference = line.difference
        rows[line.row.name] = {
            "label": line.row.label,
            "baseline": line.row.baseline,
            "top1": line.last and asdict(line.last),
            "top1_best": line.best and asdict(line.best),
            "difference": difference and asdict(difference),
            "verdict": verdict(line),
            "parameters": line.parameters,
            "multiply_adds": line.multiply_adds,
            "seconds": line.seconds and asdict(line.seconds),
            "runs": [as_record(one) for one in found if one.run.row == line.row.name],
        }
    return {**owner(study), "rows": rows}


def as_record(one: Found) -> dict[str, Any]:
    """A run, with its results whole."""
    return {
        "seed": one.run.seed,
        "state": one.state,
        "folder": str(one.run.folder),
        "config": one.run.digest,
        "command": one.run.command(),
        "results": one.results,
    }


def write(study: Study, found: Sequence[Found]) -> list[Path]:
    """Writes study.md, study.csv, runs.csv and study.json into the study's folder."""
    folder = study.output_dir
    table = [cells(line) for line in lines(study, found)]
    texts = {
        "study.md": markdown(study, found),
        "study.csv": comma_separated(HEADER, table),
        "runs.csv": comma_separated(RUNS, [run_cells(one) for one in found]),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    write_json(folder / ABOUT, as_dict(study, found))
    return [folder / name for name in (*texts, ABOUT)]
