"""How a search draws: a setting from its range, what a sampler proposes and a pruner stops."""

import optuna
from optuna.trial import Trial

from kdframe.plan import seed_of
from kdframe.study.planning import Planned
from kdframe.study.space import Range, Value
from kdframe.study.written import Search

STARTUP = 5  # trials before the median prunes


def suggest(trial: Trial, key: str, values: Range) -> Value:
    """One setting, from its range."""
    if values.choices:
        choice: Value = trial.suggest_categorical(key, values.choices)  # type: ignore[assignment]
        return choice
    if values.whole:
        step = round(values.step) or 1
        return trial.suggest_int(
            key, round(values.low), round(values.high), step=step, log=values.log
        )
    return trial.suggest_float(
        key, values.low, values.high, step=values.step or None, log=values.log
    )


def sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """With a seed of the trial's own: workers draw apart, and a broken-off search goes on as is."""
    seed = seed_of(search.seed, "search", number) % 2**32
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's points wait in the storage


def pruner(search: Search, planned: Planned) -> optuna.pruners.BasePruner:
    """It sees the metric after every epoch."""
    epochs = planned.config.tree.SOLVER.EPOCHS
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    return optuna.pruners.NopPruner()
