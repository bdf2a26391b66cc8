"""SIGTERM, SIGINT and SIGUSR1, to a process and to its group, at every time of a run's life."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

CATCHES = 1 << (signal.SIGTERM - 1)


def state(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["state"]


def steps(folder: Path) -> list[int]:
    return sorted(int(p.stem[5:]) for p in (folder / "checkpoints").glob("*.json"))


@pytest.mark.faults
def test_a_group_with_workers_is_stopped_and_goes_on_with_other_workers(lab, count) -> None:
    """0, 2 and 3 of them: SIGTERM to all of the group, SIGINT to all, and to the same bytes."""
    lab.pictures()
    whole = lab.uninterrupted(config="pictures.yaml")
    config, words = "pictures.yaml", ["OUTPUT_DIR", "run", "CHECKPOINT.MINUTES", "10"]
    for workers, number, at in (("2", signal.SIGTERM, 7), ("3", signal.SIGINT, 14)):
        process = lab.start(*words, "DATASET.WORKERS", workers, config=config)
        process.wait_for(f'"step": {at},', lab.where / "run/metrics.jsonl")
        process.signal(number, group=True)
        code, _, err = process.end()
        assert code == 128 + number, err
        said = f"error: stopped by {number.name}; --resume goes on from here"
        assert err.splitlines()[-1] == said  # torch warns of more workers than cores
        assert state(lab.where / "run") == "stopped" and steps(lab.where / "run")
        words = [*words, "--resume"] if "--resume" not in words else words
        count("signals answered")
    done = lab.run(*words, config=config)
    assert done.returncode == 0, done.stderr
    assert lab.same(whole, "run") == []


def test_sigusr1_saves_and_goes_on_and_sigint_saves_and_stops(lab, count) -> None:
    process = lab.start("OUTPUT_DIR", "run", "SOLVER.EPOCHS", "4000", "CHECKPOINT.MINUTES", "10")
    run = lab.where / "run"
    process.wait_for('"step": 3,', run / "metrics.jsonl")
    assert steps(run) == []
    process.signal(signal.SIGUSR1)
    until = time.monotonic() + 60
    while not steps(run):
        assert time.monotonic() < until
        time.sleep(0.01)
    (saved,) = steps(run)
    process.wait_for(f'"step": {saved + 20},', run / "metrics.jsonl")
    process.signal(signal.SIGINT)
    assert process.end()[0] == 130
    assert len(steps(run)) == 2 and steps(run)[0] == saved
    count("signals answered", 2)


@pytest.mark.faults
def test_signals_in_validation_and_in_the_last_test_lose_nothing(lab, count) -> None:
    """Two batches an epoch are of validation; the seventh of the second life is of the test."""
    whole = lab.uninterrupted()
    for n, again in ((1, []), (7, ["--resume"])):
        done = lab.run("OUTPUT_DIR", "run", *again, die=("measure", n))
        assert done.returncode == 143, done.stderr
    assert steps(lab.where / "run") == [12, 18]
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert lab.same(whole, "run") == []
    count("signals answered", 2)


@pytest.mark.faults
def test_a_signal_before_the_first_step_is_answered_and_the_folder_stays_free(lab, count) -> None:
    """While the parts are imported, and while the teacher is measured."""
    process = lab.start("OUTPUT_DIR", "run", config="kd.yaml")
    until = time.monotonic() + 60
    while not caught(process.pid) & CATCHES:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.signal(signal.SIGTERM)
    code, _, err = process.end()
    assert code == 143 and err == (
        "error: stopped by SIGTERM; it had made no step that could be lost\n"
    )
    assert not (lab.where / "run").exists()
    done = lab.run("OUTPUT_DIR", "run", config="kd.yaml", die=("measure", 1))
    assert done.returncode == 143, done.stderr
    assert state(lab.where / "run") == "stopped" and steps(lab.where / "run") == []
    process = lab.start("OUTPUT_DIR", "run", config="kd.yaml")  # no --resume is needed
    process.wait_for('"step": 1,', lab.where / "run/metrics.jsonl")
    count("signals answered", 2)


def caught(pid: int) -> int:
    """The signals that a process has handlers for, as the kernel's bits."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return int(line.split()[1], 16)
    return 0


def test_a_second_sigint_leaves_at_once(lab, count) -> None:
    lab.write(
        "endless.py",
        "import time\nfrom kdframe.hooks import Hook\nfrom kdframe.registry import HOOKS\n"
        '@HOOKS.register("endless")\nclass Endless(Hook):\n    """Never ends a step."""\n'
        "    def __init__(self, output_dir):\n        pass\n"
        "    def after_step(self, trainer):\n        print('in a step', flush=True)\n"
        "        time.sleep(600)\n",
    )
    process = lab.start("OUTPUT_DIR", "run", "MODULES", "[endless]", "HOOKS.endless", "{}")
    process.wait_for("in a step")
    process.signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.popen.poll() is None  # it waits for the step
    process.signal(signal.SIGINT)
    begun = time.monotonic()
    code, _, err = process.end()
    assert code == 130 and err.count("\n") == 1 and time.monotonic() - begun < 20
    count("signals answered", 2)


@pytest.mark.faults
def test_a_signal_while_a_recipe_is_trained_stops_both_and_the_recipe_goes_on(lab, count) -> None:
    taught = "_BASE_: student.yaml\nTEACHER: {CONFIG: teacher.yaml}\nLOSS: {kd: {}}"
    lab.write("taught.yaml", taught)
    words = ("OUTPUT_DIR", "run")
    process = lab.start(*words, config="taught.yaml")
    process.wait_for("epoch 2/15")
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 143
    (recipe,) = (lab.where / "runs/recipes").iterdir()
    assert state(recipe) == state(lab.where / "run") == "stopped"
    done = lab.run(*words, config="taught.yaml")
    assert done.returncode in (0, 2), done.stderr  # such a teacher may be at chance
    assert "resumed at step" in done.stdout and state(recipe) == "done"
    count("signals answered")


@pytest.mark.faults
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(lab, count) -> None:
    words = ["OUTPUT_DIR", "run", "SOLVER.EPOCHS", "400"]
    process = lab.start(*words, processes=2)
    process.wait_for('"step": 3,', lab.where / "run/metrics.jsonl")
    second = [pid for pid in children(process.pid) if rank(pid) == "1"]
    os.kill(second[0], signal.SIGTERM)
    code, _, err = process.end()
    assert code != 0 and "stopped by SIGTERM; --resume goes on" in err
    assert state(lab.where / "run") == "stopped"
    process = lab.start(*words, "--resume", processes=2)
    process.wait_for(f"resumed at step {steps(lab.where / 'run')[-1]} of")
    count("signals answered")


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank(pid: int) -> str:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((p[5:].decode() for p in pairs if p.startswith(b"RANK=")), "")
