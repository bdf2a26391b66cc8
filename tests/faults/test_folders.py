"""Two runs and one folder; another config; runs that never began."""

import json
import signal
import time
from pathlib import Path

import pytest

ENDLESS = ("SOLVER.EPOCHS", "4000")


def test_a_second_run_is_refused_at_once_and_a_killed_ones_folder_is_free_at_once(
    lab, count
) -> None:
    """With loader workers that outlive it by seconds."""
    lab.pictures()
    words = ("OUTPUT_DIR", "run", *ENDLESS, "DATASET.WORKERS", "2")
    first = lab.start(*words, config="pictures.yaml")
    first.wait_for('"step": 1,', lab.where / "run/metrics.jsonl")
    for again in ([], ["--resume"]):
        begun = time.monotonic()
        second = lab.run(*words, *again, config="pictures.yaml")
        took = time.monotonic() - begun
        assert second.returncode == 2 and took < 3, (took, second.stderr)
        assert second.stderr.count("\n") == 1
        if again:
            assert f"run is in use by process {first.pid} on " in second.stderr
    first.wait_for('"step": 7,', lab.where / "run/metrics.jsonl")
    first.signal(signal.SIGKILL)
    third = lab.start(*words, "--resume", config="pictures.yaml")
    third.wait_for("resumed at step")
    assert third.popen.poll() is None
    count("second runs refused", 2, of=2)


@pytest.mark.faults
def test_a_run_in_its_first_seconds_has_its_folder_to_itself(lab) -> None:
    lab.write(
        "slow.py",
        "import time\nfrom kdframe import build\n"
        "def slowly(*words, whole=build.build_data):\n"
        "    print('reads', flush=True)\n    time.sleep(600)\n"
        "build.build_data = slowly\n",
    )
    lab.write("late.py", "import slow\n")
    first = lab.start("OUTPUT_DIR", "run", "MODULES", "[late]")
    first.wait_for("reads")
    second = lab.run("OUTPUT_DIR", "run")
    assert second.returncode == 2
    assert f"run is in use by process {first.pid} on " in second.stderr


@pytest.mark.parametrize("lost", ["run.json", "results.json"])
def test_a_finished_run_is_never_overwritten(lab, lost) -> None:
    run = lab.copy(lab.uninterrupted(), "run")
    (run / lost).unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = lab.run("OUTPUT_DIR", "run")
    assert done.returncode == 2 and "run holds a run: --resume goes on" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_change_that_makes_another_run_is_refused_and_one_that_does_not_is_taken(lab) -> None:
    lab.copy(lab.uninterrupted(), "run", finished=False)
    done = lab.run("OUTPUT_DIR", "run", "--resume", "SOLVER.LR", "0.02")
    assert done.returncode == 2
    assert done.stderr == (
        "error: command line: SOLVER.LR: the run in run has 0.01, and --resume can't make it "
        "0.02.\n"
    )
    words = ("CHECKPOINT.KEEP", "3", "DATASET.WORKERS", "2", "HOOKS.metrics.PERIOD", "2")
    done = lab.run("OUTPUT_DIR", "run", "--resume", *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.faults
def test_a_teacher_that_is_refused_leaves_the_folder_to_the_next_try(lab) -> None:
    weights = lab.uninterrupted() / "student.safetensors"
    same = f"{{NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2, WEIGHTS: {weights}}}"
    words = ("OUTPUT_DIR", "run", "TEACHER", same)
    done = lab.run(*words, config="kd.yaml")
    assert done.returncode == 2 and "chance" in done.stderr, done.stderr
    about = json.loads((lab.where / "run/run.json").read_text())
    assert about["state"] == "failed" and not about["trained"]
    done = lab.run("OUTPUT_DIR", "run", config="kd.yaml")
    assert done.returncode == 0, done.stderr
    about = json.loads((lab.where / "run/run.json").read_text())
    assert about["state"] == "done" and about["trained"]


@pytest.mark.faults
def test_a_run_that_died_between_its_results_and_its_last_word_is_done(lab) -> None:
    run = lab.copy(lab.uninterrupted(), "run")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "state": "running"}))
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 0 and "distilled" not in done.stderr
    assert json.loads((run / "run.json").read_text())["state"] == "done"


def test_fewer_than_two_checkpoints_cannot_be_asked_for(lab) -> None:
    done = lab.run("OUTPUT_DIR", "run", "CHECKPOINT.KEEP", "1")
    assert done.returncode == 2 and "CHECKPOINT.KEEP" in done.stderr
    assert not Path(lab.where / "run").exists()
