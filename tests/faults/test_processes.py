"""Several processes: one of them raises, is killed or hangs, and all end with one line."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

RAISES = """
import os
from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

calls = []


@DISTILLERS.register("rank_one")
def rank_one(student, teacher: Output | None, batch, *, what: str = ""):
    \"\"\"Fails on the second process, in its seventh call.\"\"\"
    calls.append(1)
    if os.environ.get("RANK") == "1" and len(calls) == 7:
        print("now", flush=True)
        if what == "raises":
            raise OSError(28, "No space left on device", "somewhere")
        while what == "hangs":
            pass
    return student.logits.square().mean()
"""
WORDS = (
    "MODULES", "[terms]", "OUTPUT_DIR", "run", "SOLVER.EPOCHS", "400", "CHECKPOINT.MINUTES", "1",
    "TIMEOUT", "0.1",
)  # fmt: skip
HERE = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), "."])}  # finds terms.py
LIMIT = 20.0  # seconds in which all processes have ended: a demand


def started(lab, what: str):
    lab.write("terms.py", RAISES)
    words = (*WORDS, "LOSS", f"{{rank_one: {{WHAT: {what}}}}}")
    return lab.start(*words, processes=2, env=HERE)


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def processes_of(lab) -> dict[int, int]:
    """The pid of each process of the run that goes on in a lab, by its rank."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environ = (place / "environ").read_text(errors="replace").split("\0")
            parent = (place / "stat").read_text().rpartition(") ")[2].split()[1]
            here = (place / "cwd").readlink() == lab.where
        except OSError:
            continue
        rank = next((word[5:] for word in environ if word.startswith("RANK=")), None)
        if here and rank is not None and int(parent) == lab.started[-1].pid:
            found[int(rank)] = int(place.name)
    return found


@pytest.mark.parametrize(
    "what",
    [
        "raises",
        "killed",
        *(pytest.param(w, marks=pytest.mark.faults) for w in ("stopped", "hangs")),
    ],
)
def test_one_process_ends_all_with_one_line(lab, count, what) -> None:
    process = started(lab, what)
    if what in ("raises", "hangs"):
        process.wait_for("now")
    else:
        process.wait_for('"step": 5,', lab.where / "run/metrics.jsonl")
        number = signal.SIGKILL if what == "killed" else signal.SIGSTOP
        os.kill(processes_of(lab)[1], number)
    begun = time.monotonic()
    code, _, stderr = process.end()
    took = time.monotonic() - begun
    assert code != 0
    said = {
        "raises": r"error: somewhere: No space left on device",
        "killed": r"error: process 1 of 2 \(pid \d+ on \S+\) was killed, or died without a word",
        "stopped": r"error: process 1 of 2 \(pid \d+ on \S+\) hasn't answered in TIMEOUT",
        "hangs": r"error: process 1 of 2 \(pid \d+ on \S+\) hasn't answered in TIMEOUT",
    }[what]
    lines = errors(stderr)
    assert len(lines) == 1 and re.fullmatch(said, lines[0]), stderr
    assert took < LIMIT, took
    assert not processes_of(lab)
    count("processes ended in 20 s by the failure of one", 2)


def test_an_error_of_all_is_one_line(lab) -> None:
    done = lab.run("SOLVER.LRR", "1", processes=2)
    assert errors(done.stderr) == [
        "error: command line: there is no SOLVER.LRR. Did you mean SOLVER.LR?"
    ]
    assert "Traceback" not in done.stderr.partition("torch/distributed")[0]


def test_two_processes_say_nothing_that_is_not_kdframe_s(lab) -> None:
    done = lab.run(
        "OUTPUT_DIR", "run", "SOLVER.EPOCHS", "1", processes=2, config="kd.yaml",
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.faults
def test_two_processes_resume_to_the_same_bytes(lab) -> None:
    words = ("TIMEOUT", "5")
    whole = lab.run("OUTPUT_DIR", "whole", *words, processes=2, config="kd.yaml")
    assert whole.returncode == 0, whole.stderr
    process = lab.start("OUTPUT_DIR", "parts", *words, processes=2, config="kd.yaml")
    process.wait_for('"step": 8,', lab.where / "parts/metrics.jsonl")
    os.kill(processes_of(lab)[0], signal.SIGKILL)
    assert process.end()[0] != 0
    words = ("TIMEOUT", "7")  # a key that can't change the result
    done = lab.run("--resume", "OUTPUT_DIR", "parts", *words, processes=2, config="kd.yaml")
    assert done.returncode == 0 and "resumed at step" in done.stdout, done.stderr
    assert lab.same("whole", "parts") == []


@pytest.mark.faults
def test_when_torchrun_is_killed_its_processes_save_and_end(lab, count) -> None:
    words = ("OUTPUT_DIR", "run", "SOLVER.EPOCHS", "400", "CHECKPOINT.MINUTES", "60")
    process = lab.start(*words, processes=2)
    process.wait_for('"step": 5,', lab.where / "run/metrics.jsonl")
    ranks = processes_of(lab).values()
    process.signal(signal.SIGKILL)
    until = time.monotonic() + LIMIT
    while any(map(runs, ranks)):
        assert time.monotonic() < until, process.err.read_text()
        time.sleep(0.05)
    assert list((lab.where / "run/checkpoints").glob("step_*.json"))
    said = process.err.read_text().splitlines()  # each says it: who spoke is not kept any more
    assert set(said) == {"error: stopped by SIGTERM; --resume goes on from here"}
    count("processes ended in 20 s by the failure of one", 2)


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
