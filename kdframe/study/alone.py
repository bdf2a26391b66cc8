"""All runs of a study, one after the other, by this process."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from kdframe.signals import Stopped, stop_if
from kdframe.study.display import Display
from kdframe.study.folder import Failures
from kdframe.study.planning import Plan, Planned
from kdframe.study.process import GOES_ON, Outcome, attend

log = logging.getLogger("kdframe")

STORAGE = 4  # the exit code of a full or read-only disk: every other run would fail by it as well


class RunsFailed(RuntimeError):
    """Some runs of a study failed, and its other runs are done."""

    def __init__(self, failed: dict[str, str], total: int, code: int) -> None:
        first, why = next(iter(failed.items()))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(
            f"{len(failed)} of {total} runs failed: {first} ({why}){more}; --retry-failed tries "
            "them again."
        )
        self.exit_code = code


class StorageFault(RuntimeError):
    """The disk is full or read-only."""

    exit_code = STORAGE


@dataclass
class Alone:
    """Runs what is left of a plan; what is done stays, what was broken off goes on.

    Args:
        plan: of the study.
        retry: runs that failed are tried again.
        asked: the signal to answer, 0 for none.
        debug: show the traceback of an error.
    """

    plan: Plan
    retry: bool
    asked: Callable[[], int]
    debug: bool
    failed: dict[str, str] = field(default_factory=dict)
    code: int = 1

    def work(self) -> None:
        """To the end of all runs.

        Raises:
            Stopped: by a signal, after the checkpoint of the run in hand.
            StorageFault: the disk is full.
        """
        self.failures = Failures(self.plan.study.output_dir)
        runs = self.plan.runs.values()
        with Display(self.plan.study.name, len(runs)) as display:
            for number, run in enumerate(runs):
                stop_if(self.asked(), GOES_ON)
                display.count(number)
                self.take(run, display)
            display.count(len(runs))

    def take(self, run: Planned, display: Display) -> None:
        """One run, if it is to be run."""
        state, earlier = run.state(), self.failures.read().get(run.key, "")
        lacks = [key for key in run.needs if key in self.failed]
        if state == "done":
            display.say(f"{run.key}: done before, in {run.folder}")
        elif lacks:
            self.failed[run.key] = f"it needs {lacks[0]}"
            display.say(f"{run.key}: not begun, it needs {lacks[0]}, which failed")
        elif (state == "failed" or earlier) and not self.retry:
            self.failed[run.key] = earlier or "see its log.txt"
            display.say(f"{run.key}: failed before ({self.failed[run.key]}); --retry-failed")
        else:
            display.begin(run.key, state)
            outcome = attend(run, asked=self.asked, told=display.told, debug=self.debug)
            display.end(run.key, "done" if outcome.done else outcome.message)
            self.judge(run, outcome)

    def judge(self, run: Planned, outcome: Outcome) -> None:
        """Notes how a run ended."""
        if outcome.stopped:
            raise Stopped(outcome.code - 128, GOES_ON)
        if outcome.code == STORAGE:
            raise StorageFault(outcome.message)
        if not outcome.done:
            if not self.failed:
                self.code = outcome.code
            self.failed[run.key] = outcome.message
        lasting = not outcome.done and run.state() != "begun"  # one that died just goes on
        self.failures.note(run.key, outcome.message if lasting else "")

    def end(self) -> None:
        """Says what failed.

        Raises:
            RunsFailed: something did.
        """
        if self.failed:
            raise RunsFailed(self.failed, len(self.plan.runs), self.code)
