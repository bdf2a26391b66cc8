"""What the runs of a study's rows left, as far as there is something."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdframe.config import ConfigError
from kdframe.run import Results
from kdframe.run_files import read_json
from kdframe.study.planning import Plan, Planned


@dataclass(frozen=True)
class Found:
    """One run's figures.

    Attributes:
        run: the run.
        results: its results.json; None where it isn't done.
        student: parameters and multiply_adds, of its complexity.json; empty where that is missing.
        state: new, begun, failed or done.
    """

    run: Planned
    results: Results | None
    student: dict[str, Any]
    state: str


def find(run: Planned) -> Found:
    """What is in a run's folder."""
    state = run.state()
    results = read_json(run.folder / "results.json") if state == "done" else None
    return Found(run, results, cost(run.folder), state)


def cost(folder: Path) -> dict[str, Any]:
    """The student's parameters and multiply-adds, of its run's complexity.json."""
    counts = (read_json(folder / "complexity.json") or {}).get("student", {})
    return {key: counts[key] for key in ("parameters", "multiply_adds") if key in counts}


def find_rows(plan: Plan, elsewhere: Mapping[str, Mapping[str, Any]]) -> list[Found]:
    """Of every run that is of a row.

    Args:
        plan: of the study.
        elsewhere: results and costs of runs that other machines' folders hold, by the runs' keys.

    Raises:
        ConfigError: none of them is done.
    """
    rows = [run for run in plan.runs.values() if run.row]
    found = [
        Found(run, **elsewhere[run.key], state="done") if run.key in elsewhere else find(run)
        for run in rows
    ]
    if not any(one.results for one in found):
        raise ConfigError(
            f"{plan.study.output_dir} holds no finished run of {plan.study.path} to report on."
        )
    return found
