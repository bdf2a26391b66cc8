"""A run's process as the study sees it: what it is told when, and how it ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdframe.signals import Stopped
from kdframe.study import alone, process
from kdframe.study.alone import Alone, RunsFailed
from kdframe.study.planning import Planned, plan
from kdframe.study.process import Outcome, outcome, watch
from kdframe.study.tasks import Work
from kdframe.study.written import read_study

IMPORTS = """
try:
    open('begun', 'w').close(); time.sleep(60)
except KeyboardInterrupt:
    raise ImportError('a library caught it')
"""
TRAINS = """
signal.signal(signal.SIGUSR1, lambda *_: open('saved', 'w').close())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
time.sleep(1)
os.write(int(sys.argv[1]), b'{"step": 0}\\n'); open('begun', 'w').close(); time.sleep(60)
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open('begun', 'w').close(); time.sleep(60)"


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """How a process ended that runs a script in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def ended(script: str, asked: Callable[[], int]) -> Outcome:
        listen, tell = os.pipe()
        line = [sys.executable, "-c", f"import os, signal, sys, time\n{script}", str(tell)]
        run = subprocess.Popen(line, pass_fds=(tell,), stderr=subprocess.DEVNULL)
        os.close(tell)
        stop = watch(run, listen, asked, lambda event: True)
        os.close(listen)
        return outcome(run.returncode, stop, "", debug=False)

    return ended


def once_there(name: str, number: int) -> Callable[[], int]:
    return lambda: number if Path(name).exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_in_its_imports_is_stopped_and_not_failed(ended, number) -> None:
    said = f"stopped by {number.name}"
    assert ended(IMPORTS, once_there("begun", number)) == Outcome(128 + number, said)


def test_so_is_one_that_lost_our_patience(ended, monkeypatch) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    assert ended(DEAF, once_there("begun", signal.SIGTERM)).code == 143


def test_a_request_to_save_waits_for_the_first_step_and_a_stop_may_follow(ended) -> None:
    first = iter([signal.SIGUSR1])
    assert (
        ended(TRAINS, lambda: next(first, 0) or once_there("saved", signal.SIGTERM)()).code == 143
    )
    assert Path("saved").exists()


def test_one_that_was_killed_unasked_has_failed() -> None:
    assert outcome(-9, 0, "", debug=False).code == 6
    assert outcome(2, signal.SIGTERM, "", debug=False).code == 2


def test_its_error_is_told_whatever_a_library_says_after_it() -> None:
    said = "warning: x\nerror: a.yaml: SOLVER.LR: no.\nresource_tracker: leaked\n"
    assert outcome(2, 0, said, debug=False).message == "a.yaml: SOLVER.LR: no."
    assert outcome(1, 0, "Traceback:\nImportError: y\n", debug=False).message == "ImportError: y"


def test_a_signal_between_two_runs_ends_the_study_and_fails_none(here, monkeypatch) -> None:
    (here / "two.yaml").write_text("ROWS: {a: {CONFIG: student.yaml}, b: {CONFIG: teacher.yaml}}\n")
    study = read_study("two.yaml")
    study.output_dir.mkdir(parents=True)
    begun = []
    monkeypatch.setattr(alone, "attend", lambda run, **_: begun.append(run.key) or Outcome(0, ""))
    work = Alone(plan(study), False, lambda: signal.SIGTERM * len(begun), debug=False)
    with pytest.raises(Stopped, match="SIGTERM; the same command goes on from here"):
        work.work()
    assert begun == ["a/s0"] and not work.failed


def test_why_all_rows_failed_is_told_though_a_recipe_is_done(here, monkeypatch) -> None:
    def attend(run: Planned, **_) -> Outcome:
        run.folder.mkdir(parents=True, exist_ok=True)
        if run.row:
            return Outcome(3, "diverged")
        (run.folder / "results.json").write_text(json.dumps({"config": run.digest}))
        return Outcome(0, "")

    monkeypatch.setattr(alone, "attend", attend)
    (here / "one.yaml").write_text("ROWS: {kd: {CONFIG: kd.yaml}}\n")
    with pytest.raises(RunsFailed, match=r"kd/s0 \(diverged\)") as failed:
        Work(read_study("one.yaml"), [], [], "", 1, 8, retry=False, debug=False).train()
    assert failed.value.exit_code == 3
