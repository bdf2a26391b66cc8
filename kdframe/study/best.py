"""What a search found, as files: the best config, every trial, and which keys mattered."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from kdframe.reports.importance import draw
from kdframe.study.planning import Planned, training
from kdframe.study.storage import patiently, quiet
from kdframe.study.written import Search
from kdframe.values import shown
from kdframe.writing import write_text

ENOUGH = 4  # finished trials that importances are told from


def write_found(
    folder: Path,
    study: optuna.Study,
    search: Search,
    planned: Planned,
    trials: Sequence[FrozenTrial],
) -> list[Path]:
    """Writes best.yaml, trials.csv and, with trials enough, importance.png; returns their paths.

    ``planned`` is the best trial's run.  Its config is written whole, and trains the same from
    anywhere while its recipes are there.  BASELINE isn't in it: a trial tells no gain.
    """
    best = patiently(getattr, study, "best_trial")
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    found = ", ".join(f"{key} {shown(value)}" for key, value in best.params.items())
    head = (
        f"# The best of {len(trials)} trials for {search.metric}: {best.value:.4g}, seed "
        f"{planned.seed}.  Chosen on validation; one seed.\n"
        f"# {found}\n"
        "# A gain is told where BASELINE names the student alone.\n"
        f"#   {shlex.join(training(folder / 'best.yaml'))}\n"
    )
    write_text(folder / "best.yaml", head + planned.config.dump())
    write_text(folder / "trials.csv", listed(list(search.space.ranges), trials))
    paths = [folder / "best.yaml", folder / "trials.csv"]
    if len(done) >= ENOUGH and len({trial.value for trial in done}) > 1:
        with quiet():
            importances = optuna.importance.get_param_importances(study)
        points = [(dict(trial.params), float(trial.value or 0.0)) for trial in done]
        draw(importances, points, search.metric, folder / "importance.png")
        paths.append(folder / "importance.png")
    return paths


def listed(keys: Sequence[str], trials: Sequence[FrozenTrial]) -> str:
    """Every trial as a line of CSV; ``value`` is the last that was seen of one that was pruned."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "value", *keys, "failed"])
    for trial in trials:
        seen = list(trial.intermediate_values.values())
        value = trial.value if trial.value is not None else seen[-1] if seen else ""
        rows.writerow(
            [
                f"t{trial.user_attrs.get('slot', trial.number)}",
                trial.state.name.lower(),
                value,
                *(trial.params.get(key, "") for key in keys),
                trial.user_attrs.get("failed", ""),
            ]
        )
    return text.getvalue()
