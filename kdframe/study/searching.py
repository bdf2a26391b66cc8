"""A search: trials of one row's config, tuned on validation, alone or with other workers.

A trial's slot names its folder; a trial that was broken off waits again in the same slot, with the
same settings.  As in ``sharing``, should two processes add the same, the lower number is the trial.
"""

import logging
import shlex
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from kdframe.config import ConfigError
from kdframe.layers import Layer, overlay
from kdframe.resolved import source_of
from kdframe.run_files import read_json
from kdframe.schema import is_path
from kdframe.signals import Stopped, stop_if
from kdframe.study.alone import STORAGE, StorageFault
from kdframe.study.best import write_found
from kdframe.study.display import Display
from kdframe.study.drawing import pruner, sampler, suggest
from kdframe.study.planning import Planned, cache_layers, planned_row
from kdframe.study.process import GOES_ON, LIVES, Event, Outcome, attend
from kdframe.study.space import Value
from kdframe.study.storage import Heartbeat, open_storage, patiently
from kdframe.study.written import SEARCHED, Study, beside
from kdframe.values import shown

log = logging.getLogger("kdframe")

SLOT, FAILED, DIED, DROPPED, HOST = "slot", "failed", "died", "dropped", "host"
LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
OVER = (TrialState.COMPLETE, TrialState.PRUNED)
LOOK = 1.0  # seconds
FALLING = ("val/nll", "val/ece")  # the lower, the better


class Searching:
    """The search of a study's file.

    Args:
        study: with a SEARCH.
        url: of the storage; empty for a file in the study's folder.
        heartbeat: seconds between two signs of life.
        grace: seconds without one, until a trial is given to another worker.

    Raises:
        ConfigError: a key that there isn't, a value that it doesn't take, no storage.
    """

    def __init__(self, study: Study, url: str, heartbeat: int, grace: int) -> None:
        if study.search is None:
            raise study.error("SEARCH", "there is none.")
        self.written, self.search, self.heartbeat = study, study.search, heartbeat
        self.row, self.grace = study.rows[study.search.row], timedelta(seconds=grace)
        self.cache = cache_layers(study, self.row, {})
        self.try_ends()
        self.folder = study.output_dir / SEARCHED
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = open_storage(
            url or f"sqlite:///{study.output_dir / 'search.db'}", heartbeat, grace
        )
        name = f"{study.name}/{SEARCHED}/{self.row.name}"
        falling = self.search.metric in FALLING
        self.study = patiently(
            optuna.create_study,
            storage=self.storage,
            study_name=name,
            direction="minimize" if falling else "maximize",
            sampler=optuna.samplers.RandomSampler(),
            pruner=pruner(self.search, self.planned(0, self.end("low"))),
            load_if_exists=True,
        )
        self.refuse_other()
        if self.search.sampler == "grid":
            for slot, point in enumerate(self.search.space.grid()):
                slots = {SLOT: slot}  # another worker may add the same at this moment
                patiently(self.study.enqueue_trial, point, slots, skip_if_exists=True)

    def refuse_other(self) -> None:
        """Trials of another space or row can't be compared.

        Raises:
            ConfigError: the storage holds such.
        """
        mine = {
            "space": repr(dict(self.search.space.ranges)),
            "METRIC": self.search.metric,
            "row": self.planned(0, self.end("low")).digest,
        }
        there = patiently(getattr, self.study, "user_attrs")
        for key, value in mine.items():
            if there.get(key, value) != value:
                raise self.written.error(
                    "SEARCH",
                    f"its {key} changed under the trials in {self.folder}; another OUTPUT_DIR or "
                    "NAME starts anew.",
                )
            patiently(self.study.set_user_attr, key, value)

    def end(self, which: str) -> dict[str, Value]:
        """The settings at one end of every range."""
        return {
            key: (r.choices[0 if which == "low" else -1] if r.choices else getattr(r, which))
            for key, r in self.search.space.ranges.items()
        }

    def try_ends(self) -> None:
        """Ranges of keys that aren't there, or that reach too far, are answered before all else.

        Raises:
            ConfigError: naming the key.
        """
        self.planned(0, self.end("low"))
        self.planned(0, self.end("high"))
        for key, values in self.search.space.ranges.items():
            for choice in values.choices[1:-1]:
                self.planned(0, {**self.end("low"), key: choice})

    def planned(self, slot: int, settings: dict[str, Value]) -> Planned:
        """The run of a trial; a path among its settings is relative to the file that it is in."""
        data: dict[str, Any] = {"BASELINE": ""}  # a trial has no gain to tell
        for key, value in settings.items():
            nested: Any = value
            if is_path(key) and value:
                at = source_of(
                    f"SEARCH.SPACE.{key}.CHOICES", self.written.sources, self.written.path
                )
                nested = str(beside(at, str(value)))
            for part in reversed(key.split(".")):
                nested = {part: nested}
            overlay(data, nested, "", {})
        layer = Layer(f"{self.written.path}: SEARCH.SPACE", Path(), data)
        key, folder = f"{SEARCHED}/t{slot}", self.written.output_dir / SEARCHED / f"t{slot}"
        return planned_row(
            self.written, self.row, self.row.seeds[0], [*self.cache, layer], key, folder
        )

    def work(self, asked: Callable[[], int], debug: bool) -> None:
        """Takes trials until TRIALS are over.

        Raises:
            Stopped: by a signal; the trial in hand is given back.
            StorageFault: the disk is full; the trial in hand is given back.
        """
        with Display(self.written.name, self.search.trials) as display:
            while (trial := self.take(asked, display)) is not None:
                self.run(trial, asked, debug, display)

    def take(self, asked: Callable[[], int], display: Display) -> Trial | None:
        """The next trial; waits while another worker may give one back."""
        while True:
            stop_if(asked(), GOES_ON)
            self.give_back()
            trials = self.trials()
            slots = {slot_of(trial) for trial in trials}
            over = {slot_of(t) for t in trials if t.state in OVER or FAILED in t.user_attrs}
            display.count(min(len(over), self.search.trials))
            if len(over) >= self.search.trials:
                return None
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if waiting or len(slots) < self.search.trials:
                trial = patiently(self.study.ask)
                patiently(self.storage.record_heartbeat, trial._trial_id)
                patiently(trial.set_user_attr, HOST, True)
                if self.is_mine(trial):
                    return trial
            else:
                time.sleep(min(LOOK, self.heartbeat / 2))

    def attempts(self) -> list[FrozenTrial]:
        """All trials, without those that two processes added at once."""
        found = patiently(self.study.get_trials, deepcopy=False)
        return [trial for trial in found if DROPPED not in trial.user_attrs]

    def trials(self) -> list[FrozenTrial]:
        """The one of every slot: the first that lives, else the last that was broken off."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.attempts():
            there = found.get(slot_of(trial))
            if there is None or there.state not in LIVE:
                found[slot_of(trial)] = trial
        return list(found.values())

    def give_back(self) -> None:
        """Lets the trials of workers that died wait again."""
        patiently(optuna.storages.fail_stale_trials, self.study)
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and HOST not in trial.user_attrs:
                begun = trial.datetime_start or datetime.now()
                if datetime.now() - begun > self.grace:  # it died before its first sign of life
                    fail = (trial._trial_id, TrialState.FAIL)
                    patiently(self.storage.set_trial_state_values, *fail)
            elif trial.state == TrialState.FAIL and FAILED not in trial.user_attrs:
                settings = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
                about = {SLOT: slot_of(trial)}
                patiently(self.study.enqueue_trial, settings, user_attrs=about)

    def is_mine(self, trial: Trial) -> bool:
        """Whether a trial stands for a slot of its own, and for one of the TRIALS."""
        mine = slot_of(trial)
        others = [t for t in self.attempts() if t.number < trial.number]
        same = any(t.state in LIVE and slot_of(t) == mine for t in others)
        if not same and len({slot_of(t) for t in others} - {mine}) < self.search.trials:
            return True
        patiently(trial.set_user_attr, DROPPED, True)
        patiently(self.study.tell, trial, state=TrialState.FAIL)
        return False

    def run(self, trial: Trial, asked: Callable[[], int], debug: bool, display: Display) -> None:
        """Trains a trial, as far as the pruner lets it."""
        self.study.sampler = sampler(self.search, trial.number)
        ranges = self.search.space.ranges
        settings = {key: patiently(suggest, trial, key, r) for key, r in ranges.items()}
        try:
            planned = self.planned(slot_of(trial), settings)
        except ConfigError as error:  # each of its settings is right, and together they aren't
            patiently(trial.set_user_attr, FAILED, str(error))
            patiently(self.study.tell, trial, state=TrialState.FAIL)
            display.say(f"{SEARCHED}/t{slot_of(trial)}: {error}")
            return
        said = ", ".join(f"{key} {shown(value)}" for key, value in settings.items())
        display.say(f"{planned.key}: {said}")
        display.begin(planned.key, planned.state())
        pruned = False

        def told(event: Event) -> bool:
            nonlocal pruned
            display.told(event)
            if "after" in event and self.search.metric in event["metrics"]:
                value = event["metrics"][self.search.metric]
                patiently(trial.report, value, event["after"])
                last = event["after"] == event["epochs"]
                pruned = pruned or (not last and patiently(trial.should_prune))
            return not pruned

        with Heartbeat(self.storage, trial._trial_id, self.heartbeat):
            outcome = attend(planned, asked=asked, told=told, test=False, debug=debug)
        how = self.tell(trial, planned, outcome, pruned)
        display.end(planned.key, how)
        if outcome.stopped and not pruned:
            raise Stopped(outcome.code - 128, GOES_ON)
        if outcome.code == STORAGE:
            raise StorageFault(outcome.message)

    def tell(self, trial: Trial, planned: Planned, outcome: Outcome, pruned: bool) -> str:
        """Tells the storage how a trial ended, and returns it in words."""
        state, value, how = TrialState.FAIL, None, outcome.message
        if outcome.done:
            results = read_json(planned.folder / "results.json") or {}
            value = results["val"][self.search.metric.removeprefix("val/")]
            state, how = TrialState.COMPLETE, f"{self.search.metric} {value:.4g}"
        elif pruned:
            state, how = TrialState.PRUNED, "pruned: worse than others were"
        elif outcome.died and planned.state() == "begun" and self.deaths(trial) + 1 < LIVES:
            patiently(trial.set_user_attr, DIED, outcome.message)
        elif not outcome.stopped and outcome.code != STORAGE:
            patiently(trial.set_user_attr, FAILED, outcome.message)
        patiently(self.study.tell, trial, value, state, skip_if_finished=True)
        return how

    def deaths(self, trial: Trial) -> int:
        """How often a slot's trial lost its process, and went on."""
        mine = [one for one in self.attempts() if slot_of(one) == slot_of(trial)]
        return sum(DIED in one.user_attrs for one in mine)

    def report(self) -> None:
        """Writes the best config, every trial and the importances; tells where they are.

        Raises:
            ConfigError: no trial was finished.
        """
        done = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        if not done:
            raise ConfigError(f"{self.folder}: no trial was finished; see their log.txt.")
        best = patiently(getattr, self.study, "best_trial")
        planned = self.planned(slot_of(best), dict(best.params))
        log.info(
            "best: %s with %s %.4g: %s",
            planned.key,
            self.search.metric,
            best.value,
            ", ".join(f"{key} {shown(value)}" for key, value in best.params.items()),
        )
        log.info("%s", shlex.join(planned.command()))
        paths = write_found(self.folder, self.study, self.search, planned, self.trials())
        log.info("%s", ", ".join(map(str, paths)))


def slot_of(trial: FrozenTrial | Trial) -> int:
    """The number of a trial's folder: its own, or that of the trial that it goes on with."""
    return int(trial.user_attrs.get(SLOT, trial.number))
