"""The runs of a study, shared by any number of processes through an Optuna storage.

A run is a trial: WAITING until a worker takes it, then RUNNING with that worker's heartbeat.  One
without a heartbeat fails as stale, and the run waits again.  Every worker sees to it that a run
that is neither done nor failed waits or runs, so that it doesn't matter who dies where; should two
add the same, the trial of the lower number is the run.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdframe.run_files import read_json
from kdframe.signals import Stopped, stop_if
from kdframe.study.alone import STORAGE, RunsFailed, StorageFault
from kdframe.study.display import Display
from kdframe.study.folder import owner
from kdframe.study.found import cost
from kdframe.study.planning import Plan, Planned
from kdframe.study.process import GOES_ON, LIVES, Outcome, attend
from kdframe.study.storage import Heartbeat, open_storage, patiently
from kdframe.values import shown

log = logging.getLogger("kdframe")

LOOK = 1.0  # seconds between two looks for a run, at most
RUN, CONFIG, TREE = "run", "config", "tree"  # of a trial: the key, the digest, the whole config
FAILED, DIED, DOUBLE, DONE, HOST = "failed", "died", "double", "results", "host"
LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)


@dataclass(frozen=True)
class Taken:
    """A run that is this process's, and the trial that stands for it."""

    run: Planned
    trial: int


class Sharing:
    """The queue of a plan's runs.

    Args:
        plan: of the study.
        url: of the storage.
        heartbeat: seconds between two signs of life.
        grace: seconds without one, until a run is given to another.

    Raises:
        ConfigError: the storage can't be reached, or holds another study, or other configs.
    """

    def __init__(self, plan: Plan, url: str, heartbeat: int, grace: int) -> None:
        self.plan, self.heartbeat = plan, heartbeat
        self.storage = open_storage(url, heartbeat, grace)
        self.study = patiently(
            optuna.create_study,
            storage=self.storage,
            study_name=plan.study.name,
            load_if_exists=True,
        )
        self.number = patiently(self.storage.get_study_id_from_name, plan.study.name)
        self.refuse_other()

    def refuse_other(self) -> None:
        """A storage may hold many studies, each by its name."""
        mine, study = owner(self.plan.study), self.plan.study
        theirs = patiently(self.storage.get_study_user_attrs, self.number).get("owner")
        if theirs is None:
            patiently(self.storage.set_study_user_attr, self.number, "owner", mine)
        elif theirs != mine:
            raise study.error(
                "NAME", f"the storage holds the study {mine['name']} of {theirs['file']} already."
            )
        for trial in self.trials():
            run = self.plan.runs.get(trial.user_attrs[RUN])
            if run is None or not run.row or trial.user_attrs[CONFIG] == run.digest:
                continue
            if trial.state == TrialState.FAIL and FAILED not in trial.user_attrs:
                continue
            changed = run.config.differences(trial.user_attrs[TREE])
            key, old, new = changed[0] if changed else ("a recipe or a file of weights", "", "")
            raise study.error(
                f"ROWS.{run.row}",
                f"{key} was {shown(old)} in the storage's {run.key}, and is {shown(new)} now; "
                "what is there stays: another NAME or another row starts anew.",
            )

    def trials(self) -> list[FrozenTrial]:
        """All that the storage knows of this study."""
        return patiently(self.storage.get_all_trials, self.number)

    def attempts(self) -> dict[str, list[FrozenTrial]]:
        """The trials of every run, the first one first, without those that two added at once."""
        found: dict[str, list[FrozenTrial]] = {key: [] for key in self.plan.runs}
        for trial in self.trials():
            if trial.user_attrs[RUN] in found and DOUBLE not in trial.user_attrs:
                found[trial.user_attrs[RUN]].append(trial)
        return found

    def work(self, asked: Callable[[], int], retry: bool, debug: bool) -> None:
        """Takes runs until all are done or failed, wherever.

        Raises:
            Stopped: by a signal; the run in hand is given back.
            StorageFault: the disk is full; the run in hand is given back.
        """
        if retry:
            for key, trials in self.attempts().items():
                if failure(trials):
                    self.add(self.plan.runs[key])
        with Display(self.plan.study.name, len(self.plan.runs)) as display:
            while (taken := self.take(asked, display)) is not None:
                self.run(taken, asked, debug, display)

    def take(self, asked: Callable[[], int], display: Display) -> Taken | None:
        """The next run that is free and whose recipes are done; waits while there may be one."""
        while True:
            stop_if(asked(), GOES_ON)
            patiently(optuna.storages.fail_stale_trials, self.study)
            attempts = self.attempts()
            done = {key for key, trials in attempts.items() if completed(trials)}
            failed = self.failed(attempts)
            display.count(len(done) + len(failed))
            if len(done) + len(failed) == len(self.plan.runs):
                return None
            for key, trials in attempts.items():
                if key in done or key in failed:
                    continue
                if not any(trial.state in LIVE for trial in trials):
                    self.add(self.plan.runs[key])
                elif done.issuperset(self.plan.runs[key].needs):
                    for trial in trials:
                        if trial.state == TrialState.WAITING and self.is_mine(trial):
                            return Taken(self.plan.runs[key], trial._trial_id)
            time.sleep(min(LOOK, self.heartbeat / 2))

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Takes a trial, unless another does, or another trial stands for the run already."""
        number, state = trial._trial_id, self.storage.set_trial_state_values
        # first: one who dies right after it was taken must have had a heart
        patiently(self.storage.record_heartbeat, number)
        try:
            if not patiently(state, number, TrialState.RUNNING):
                return False
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        others = self.attempts()[trial.user_attrs[RUN]]
        if any(o.state in LIVE and o.number < trial.number for o in others):
            patiently(self.storage.set_trial_user_attr, number, DOUBLE, True)
            patiently(state, number, TrialState.FAIL)
            return False
        patiently(self.storage.set_trial_user_attr, number, HOST, socket.gethostname())
        return True

    def add(self, run: Planned) -> None:
        """Lets a run wait for a worker."""
        about = {RUN: run.key, CONFIG: run.digest, TREE: run.config.plain()}
        trial = create_trial(state=TrialState.WAITING, user_attrs=about)
        patiently(self.storage.create_new_trial, self.number, trial)

    def run(self, taken: Taken, asked: Callable[[], int], debug: bool, display: Display) -> None:
        """Trains a run, and tells the storage how it ended."""
        display.begin(taken.run.key, taken.run.state())
        with Heartbeat(self.storage, taken.trial, self.heartbeat):
            outcome = attend(taken.run, asked=asked, told=display.told, debug=debug)
        display.end(taken.run.key, "done" if outcome.done else outcome.message)
        self.tell(taken, outcome)
        if outcome.stopped:
            raise Stopped(outcome.code - 128, GOES_ON)
        if outcome.code == STORAGE:
            raise StorageFault(outcome.message)

    def tell(self, taken: Taken, outcome: Outcome) -> None:
        """How a run ended; one that was broken off, or met a full disk, waits again."""
        run, number = taken.run, taken.trial
        state = TrialState.COMPLETE if outcome.done else TrialState.FAIL
        facts: dict[str, Any] = {}
        if outcome.done:
            facts[DONE] = {
                "results": read_json(run.folder / "results.json"),
                "student": cost(run.folder),
            }
        elif outcome.died and run.state() == "begun" and self.deaths(run) + 1 < LIVES:
            facts[DIED] = outcome.message
        elif not outcome.stopped and outcome.code != STORAGE:
            facts[FAILED] = outcome.message
            facts["code"] = outcome.code
        try:
            for key, value in facts.items():
                patiently(self.storage.set_trial_user_attr, number, key, value)
            values = [facts[DONE]["results"]["test"]["top1"]] if outcome.done else None
            patiently(self.storage.set_trial_state_values, number, state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            log.info("%s: this process was silent for so long that another took the run", run.key)

    def deaths(self, run: Planned) -> int:
        """How often a run lost its process, and went on."""
        return sum(DIED in trial.user_attrs for trial in self.attempts()[run.key])

    def failed(self, attempts: dict[str, list[FrozenTrial]]) -> dict[str, str]:
        """Why runs failed for good, or can't be begun, by their keys."""
        reasons = {key: failure(trials) for key, trials in attempts.items()}
        reasons = {key: why for key, why in reasons.items() if why}
        for key, run in self.plan.runs.items():
            lacks = [need for need in run.needs if need in reasons]
            if lacks and not completed(attempts[key]):
                reasons.setdefault(key, f"it needs {lacks[0]}")
        return reasons

    def results(self) -> dict[str, dict[str, Any]]:
        """What the runs that are done anywhere have found, by their keys."""
        return {
            key: trial.user_attrs[DONE]
            for key, trials in self.attempts().items()
            for trial in trials
            if trial.state == TrialState.COMPLETE
        }

    def end(self) -> None:
        """Says what failed.

        Raises:
            RunsFailed: something did.
        """
        attempts = self.attempts()
        if failed := self.failed(attempts):
            code = next((t.user_attrs["code"] for key in failed for t in attempts[key]
                         if "code" in t.user_attrs), 1)  # fmt: skip
            raise RunsFailed(failed, len(self.plan.runs), code)


def completed(trials: list[FrozenTrial]) -> bool:
    """Whether a run is done."""
    return any(trial.state == TrialState.COMPLETE for trial in trials)


def failure(trials: list[FrozenTrial]) -> str:
    """Why a run failed for good; empty while it may still be done."""
    last = trials[-1] if trials else None
    if last is None or last.state != TrialState.FAIL:
        return ""
    return str(last.user_attrs.get(FAILED, ""))
