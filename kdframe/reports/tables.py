"""The tables of a page: what is read, and the number that it is sorted by."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kdframe.reports.comparison import Line
from kdframe.reports.panels import Moment
from kdframe.reports.runs import Study
from kdframe.reports.statistics import Paired, Spread

HASH = 12  # digits of a config's
TEXT, NUMBER, WIDE, CODE = "text", "number", "wide", "code"  # kinds of columns


@dataclass(frozen=True)
class Cell:
    """What is read, in full size and smaller; ``sort`` is None where there is no number."""

    text: str = ""
    sort: float | None = None
    minor: str = ""


@dataclass(frozen=True)
class Column:
    """A head; ``title`` explains it."""

    name: str
    kind: str = NUMBER
    title: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row; ``slot`` is the colour of its mark."""

    cells: list[Cell]
    kind: str = "row"
    slot: int | None = None


@dataclass(frozen=True)
class Table:
    """A table whose empty columns are left out."""

    caption: str
    columns: list[Column]
    rows: list[TableRow] = field(default_factory=list)

    def without_empty(self) -> "Table":
        """The first column stays."""
        kept = [
            i for i in range(len(self.columns)) if not i or any(r.cells[i].text for r in self.rows)
        ]
        rows = [TableRow([r.cells[i] for i in kept], r.kind, r.slot) for r in self.rows]
        return Table(self.caption, [self.columns[i] for i in kept], rows)


def of_spread(found: Spread | None, digits: int = 2) -> Cell:
    """Mean, and standard deviation in small."""
    if found is None:
        return Cell()
    std = "" if found.std is None else f"\u00b1 {found.std:.{digits}f}"
    return Cell(f"{found.mean:.{digits}f}", found.mean, std)


def of_difference(found: Paired | None) -> Cell:
    """The mean, and half its 95 % interval in small."""
    if found is None:
        return Cell()
    half = "" if found.half is None else f"\u00b1 {found.half:.2f}"
    return Cell(signed(found.mean), found.mean, half)


def signed(value: float, digits: int = 2) -> str:
    """With a real minus, and none before 0."""
    text = f"{value:+.{digits}f}".replace("-", "\u2212")
    return text if text.strip("+\u22120.") else text[1:]


def of_count(value: float | None) -> Cell:
    """A whole number."""
    return Cell() if value is None else Cell(f"{value:,.0f}", value)


def results(lines: Sequence[Line], slots: Mapping[str, int], baselines: Mapping[str, str]) -> Table:
    """The closing table; ``baselines`` are the labels of rows by their names."""
    columns = [
        Column("row", TEXT),
        Column("seeds"),
        Column("top-1 %", title="of the test split, last weights"),
        Column("best %", title="test top-1 of the weights that were best on validation"),
        Column("gain", title="points of top-1 over the baseline, paired by seed"),
        Column("verdict", WIDE),
        Column("top-5 %"),
        Column("NLL", title="negative log-likelihood in nats"),
        Column("ECE", title="expected calibration error, 15 bins"),
        Column("agreement %", title="test images of which student and teacher say the same"),
        Column("parameters"),
        Column("multiply-adds", title="of one image"),
        Column("CPU ms", title="median forward pass of one image"),
        Column("seconds", title="of training and validation"),
    ]
    rows = []
    for line in lines:
        figures, count = line.figures, len(line.row.runs)
        top1 = figures.get("top1")
        n = top1.n if top1 else 0
        done = f"{n} of {count}" if count > n else str(n)
        verdict = line.difference.verdict().replace("+-", "\u00b1") if line.difference else ""
        if line.row.baseline in baselines:
            verdict = verdict.replace("the baseline", baselines[line.row.baseline])
        cells = [
            Cell(line.row.label),
            Cell(done, n),
            of_spread(top1),
            of_spread(figures.get("best")),
            of_difference(line.difference),
            Cell(verdict),
            of_spread(figures.get("top5")),
            of_spread(figures.get("nll"), 3),
            of_spread(figures.get("ece"), 3),
            of_spread(figures.get("agreement")),
            of_count(line.parameters),
            of_count(line.multiply_adds),
            Cell(f"{1000 * line.latency:.2f}", line.latency) if line.latency else Cell(),
            of_count(figures["seconds"].mean) if "seconds" in figures else Cell(),
        ]
        rows.append(TableRow(cells, line.row.kind, slots.get(line.row.name)))
    return Table("Results on the test split", columns, rows).without_empty()


def likeness(lines: Sequence[Line], slots: Mapping[str, int]) -> Table:
    """How like its teacher each student is; rows without a teacher are left out."""
    kinds: dict[str, tuple[Column, Callable[[Spread | None], Cell]]] = {
        "agreement": (Column("agreement %"), of_spread),
        "kl": (Column("KL, nats"), lambda s: of_spread(s, 3)),
        "kendall": (Column("Kendall \u03c4"), lambda s: of_spread(s, 3)),
        "spearman": (Column("Spearman \u03c1"), lambda s: of_spread(s, 3)),
        "correlation_error": (Column("correlation error"), lambda s: of_spread(s, 3)),
        "cka": (Column("CKA, last stage"), lambda s: of_spread(s, 3)),
    }
    rows = [
        TableRow(
            [Cell(line.row.label), *(cell(line.figures.get(n)) for n, (_, cell) in kinds.items())],
            line.row.kind,
            slots.get(line.row.name),
        )
        for line in lines
        if "kl" in line.figures
    ]
    columns = [Column("row", TEXT), *(column for column, _ in kinds.values())]
    return Table("Likeness to the teacher", columns, rows).without_empty()


def gradients(moments: Sequence[Moment], slots: Mapping[str, int]) -> Table:
    """Each term's part in the student's gradient."""
    columns = [
        Column("term", TEXT), Column("at", TEXT), Column("weight"), Column("value"),
        Column("norm", title="of the weighted term's gradient"), Column("share %"),
        Column("cosine", title="with the other terms' gradient: below 0 they pull apart"),
    ]  # fmt: skip
    rows = [
        TableRow(
            [
                Cell(name),
                Cell(moment.label),
                Cell(f"{t['weight']:.4g}", t["weight"]),
                Cell(f"{t['value']:.3g}", t["value"]),
                Cell(f"{t['norm']:.3g}", t["norm"]),
                Cell(f"{100 * t['share']:.3g}", t["share"]),
                Cell(signed(t["cosine"]), t["cosine"]),
            ],
            slot=slots.get(name),
        )
        for moment in moments
        for name, t in moment.terms.items()
    ]
    return Table("Terms in the student's gradient", columns, rows)


def provenance(study: Study) -> Table:
    """Every run: its state, and what would make it again."""
    columns = [
        Column("row", TEXT), Column("seed"), Column("state", TEXT), Column("top-1 %"),
        Column("config", TEXT, title="the first digits of its hash"), Column("began", TEXT),
        Column("device", TEXT), Column("command", CODE),
    ]  # fmt: skip
    return Table("Runs", columns, list(provenance_rows(study))).without_empty()


def provenance_rows(study: Study) -> Iterator[TableRow]:
    """A row a run."""
    for row in study.rows:
        for run in row.runs:
            top1 = run.results.get("test", {}).get("top1")
            yield TableRow(
                [
                    Cell(row.label),
                    Cell(str(run.seed), run.seed),
                    Cell(run.state),
                    Cell() if top1 is None else Cell(f"{top1:.2f}", top1),
                    Cell(str(run.about.get("config") or run.results.get("config", ""))[:HASH]),
                    Cell(str(run.about.get("start", ""))[:16].replace("T", " ")),
                    Cell(str(run.about.get("device", ""))),
                    Cell(command(run.about.get("command", []))),
                ]
            )


def command(words: Sequence[str]) -> str:
    """As it is typed in a checkout: the script without the folders above tools/."""
    words = list(map(str, words))
    if words and "/tools/" in words[0]:
        words[0] = f"tools/{words[0].rpartition('/tools/')[2]}"
    return shlex.join(words)
