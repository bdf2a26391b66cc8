"""What a search found, as files: the best config, every trial, and which keys mattered."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from kdframe.layers import overlay
from kdframe.reports.importance import draw
from kdframe.schema import is_path
from kdframe.study.planning import dotted
from kdframe.study.storage import patiently, quiet
from kdframe.study.written import Row, Search
from kdframe.writing import write_text

ENOUGH = 4  # finished trials that importances are told from


def write_found(
    folder: Path,
    study: optuna.Study,
    search: Search,
    row: Row,
    trials: Sequence[FrozenTrial],
) -> list[Path]:
    """Writes best.yaml, trials.csv and, with trials enough, importance.png; returns their paths."""
    best = patiently(getattr, study, "best_trial")
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    head = (
        f"# The best of {len(trials)} trials for {search.metric}: {best.value:.4g}, seed "
        f"{row.seeds[0]}.  Chosen on validation; one seed.\n"
        f"#   tools/train_net.py --config-file {folder / 'best.yaml'}\n"
    )
    settings = as_config(folder, row, dict(best.params))
    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)
    write_text(folder / "best.yaml", head + text)
    write_text(folder / "trials.csv", listed(list(search.space.ranges), trials))
    paths = [folder / "best.yaml", folder / "trials.csv"]
    if len(done) >= ENOUGH and len({trial.value for trial in done}) > 1:
        with quiet():
            importances = optuna.importance.get_param_importances(study)
        points = [(dict(trial.params), float(trial.value or 0.0)) for trial in done]
        draw(importances, points, search.metric, folder / "importance.png")
        paths.append(folder / "importance.png")
    return paths


def as_config(folder: Path, row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """A config whose base is the row's: its overrides, and over them what was found."""
    data: dict[str, Any] = {}
    for layer in row.layers:
        for key, value in dotted(layer.data):
            reached = layer.folder / value if is_path(key) and value else None
            overlay(
                data, nested(key, os.path.relpath(reached, folder) if reached else value), "", {}
            )
    for key, value in found.items():
        overlay(data, nested(key, value), "", {})
    return {"_BASE_": os.path.relpath(row.config, folder), "SEED": row.seeds[0], **data}


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as mappings."""
    for part in reversed(key.split(".")):
        value = {part: value}
    settings: dict[str, Any] = value
    return settings


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
