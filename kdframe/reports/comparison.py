"""The rows of a study as figures: means, spreads, differences, and what a row costs."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdframe.reports.runs import Row, Run, Study
from kdframe.reports.statistics import Paired, Spread, paired, spread

MEASURED = ("top1", "top5", "nll", "ece")  # of the test split, in results.json
ALIKE = ("kl", "kendall", "spearman", "correlation_error")  # to the teacher, in analysis.json


@dataclass(frozen=True)
class Line:
    """A row, a teacher or the student alone.

    Attributes:
        row: whose line it is; of a teacher or a student alone, with the runs that name it.
        figures: by name, those that there are: top1 and best in percent, ...
        difference: of top1, to the baseline, paired by seed.
        parameters: of the network that is deployed, as multiply_adds.
        latency: seconds of one image on the CPU, the median over all runs of this network.
    """

    row: Row
    figures: dict[str, Spread]
    difference: Paired | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    latency: float | None = None


def lines(study: Study) -> list[Line]:
    """Teachers and the student alone where no row is it, then the rows in the study's order."""
    by_name = {row.name: row for row in study.rows}
    rows = [of_row(row, by_name.get(row.baseline)) for row in study.rows]
    return with_latency([*references(study), *rows], study)


def of_row(row: Row, baseline: Row | None) -> Line:
    """A row's own figures."""
    figures = {
        **{name: over(row, partial(tested, name)) for name in MEASURED},
        "best": over(row, lambda run: run.results.get("test_best", {}).get("top1")),
        "agreement": over(row, lambda run: run.results.get("agreement")),
        "seconds": over(row, lambda run: run.results.get("seconds")),
        **{name: over(row, partial(likeness, name)) for name in ALIKE},
        "cka": over(row, last_stage),
    }
    cost = next((cost_of(run, "student") for run in row.done), {})
    return Line(
        row,
        {name: found for name, found in figures.items() if found is not None},
        difference=difference(row, baseline),
        parameters=cost.get("parameters"),
        multiply_adds=cost.get("multiply_adds"),
    )


def over(row: Row, figure: Callable[[Run], Any]) -> Spread | None:
    """Of the runs that are done and have it."""
    values = [value for run in row.done if (value := figure(run)) is not None]
    return spread(values) if values else None


def alike(run: Run) -> dict[str, Any]:
    """A student's likeness to its teacher."""
    found: dict[str, Any] = run.analysis.get("likeness", {}).get("student", {})
    return found


def likeness(name: str, run: Run) -> Any:
    """One figure of it."""
    return alike(run).get(name)


def tested(name: str, run: Run) -> Any:
    """One figure of the test split."""
    return run.results.get("test", {}).get(name)


def last_stage(run: Run) -> float | None:
    """CKA of both last stages."""
    found: list[list[float | None]] = alike(run).get("cka", [[None]])
    return found[-1][-1]


def cost_of(run: Run, who: str) -> dict[str, int]:
    """Parameters and multiply-adds of a run's network, counted at its start or afterwards."""
    for counts in (run.costs, run.analysis.get("costs", {})):
        if who in counts:
            return {key: counts[who][key] for key in ("parameters", "multiply_adds")}
    return {}


def difference(row: Row, baseline: Row | None) -> Paired | None:
    """To the row that is the baseline, or to each run's own BASELINE."""
    if baseline is row:
        return None
    if baseline is not None:
        return paired(top1_of(row, "test"), top1_of(baseline, "test"))
    return paired(top1_of(row, "test"), top1_of(row, "baseline"))


def top1_of(row: Row, who: str) -> dict[int, float]:
    """By seed, of the runs that measured that network."""
    return {run.seed: run.results[who]["top1"] for run in row.done if who in run.results}


def references(study: Study) -> Iterator[Line]:
    """A line for each teacher and student alone that the runs name, unless it is a row's."""
    named = {who: None for row in study.rows for run in row.done for who in run.results}
    teachers = sorted(who for who in named if who.split("/")[0] == "teacher")
    rows = [{mark(run, "test") for run in row.done} for row in study.rows if not study.single]
    for who in (*teachers, "baseline"):
        found = groups(study, who)
        for group in found:
            seen = {mark(run, who): run for run in group.runs.values()}
            if seen.keys() not in rows:
                several = len(found) > 1 or (who != "baseline" and len(seen) > 1)
                runs = group.runs if who == "baseline" else seen
                yield reference(group, who, several and not study.single, list(runs.values()))


@dataclass
class Group:
    """Rows that name the same network, or the same for each seed; a run of each seed."""

    rows: list[Row]
    runs: dict[int, Run]


def groups(study: Study, who: str) -> list[Group]:
    """Of all rows that name that network; those that agree on their common seeds are together."""
    found: list[Group] = []
    for row in study.rows:
        runs = {run.seed: run for run in row.done if who in run.results}
        for group in found if runs else ():
            mine, theirs = ({s: mark(r, who) for s, r in r.items()} for r in (runs, group.runs))
            same = all(mine[seed] == theirs[seed] for seed in mine.keys() & theirs.keys())
            if same and set(mine.values()) & set(theirs.values()):
                group.rows.append(row)
                group.runs = runs | group.runs
                break
        else:
            found += [Group([row], runs)] if runs else []
    return found


def mark(run: Run, who: str) -> tuple[str, ...]:
    """What tells a network from others, in whatever batches it was asked; empty for none."""
    said = run.results.get(who)
    return (f"{said['top1']:.4f}", f"{said['nll']:.3g}") if said else ()


def reference(group: Group, who: str, of: bool, runs: Sequence[Run]) -> Line:
    """Of a network that ``runs`` name in their results; ``of`` says in the label whose it is."""
    values = {name: [r.results[who][name] for r in runs] for name in MEASURED}
    figures = {name: spread(found) for name, found in values.items()}
    alone = who == "baseline"
    about = [run.analysis.get("likeness", {}).get("baseline", {}) for run in runs]
    for name in ("agreement", *ALIKE):
        found = [said[name] for said in about if name in said and alone]
        figures |= {name: spread(found)} if found else {}
    cost = cost_of(runs[0], "student" if alone else who)
    more = f" and {len(group.rows) - 1} more" if len(group.rows) > 1 else ""
    label = "student alone" if alone else who
    label += f" of {group.rows[0].label}{more}" if of else ""
    kind = "alone" if alone else "teacher"
    return Line(Row(label if of else who, label, [], kind=kind), figures, None, **cost)


def with_latency(found: Sequence[Line], study: Study) -> list[Line]:
    """The same with the latency of networks of their size."""
    seconds: dict[tuple[int, int], list[float]] = {}
    for run in (run for row in study.rows for run in row.done):
        times = run.analysis.get("latency", {})
        for who in times.keys() - {"threads"}:
            cost = cost_of(run, who)
            if cost:
                size = cost["parameters"], cost["multiply_adds"]
                seconds.setdefault(size, []).append(times[who])
    medians: dict[Any, float] = {size: statistics.median(t) for size, t in seconds.items()}
    return [
        Line(
            line.row, line.figures, line.difference, line.parameters, line.multiply_adds,
            medians.get((line.parameters, line.multiply_adds)),
        )
        for line in found
    ]  # fmt: skip
