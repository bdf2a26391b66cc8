"""kill -9, at any moment and inside saves: nothing is lost, and the end is the same to the byte."""

import random
import signal
import time

import pytest

POINTS = ("write", "fsync", "replace", "renamed", "unlink")


def test_a_chain_of_kills_inside_saves_ends_with_the_same_bytes(lab, count) -> None:
    """EMA and a feature term are in it; the checkpoint of step 12 dies under each point's hand."""
    whole = lab.uninterrupted(config="kd.yaml")
    again = []
    for point, n in (("write", 200), ("replace", 8), ("renamed", 6), ("unlink", 8)):
        done = lab.run("OUTPUT_DIR", "run", *again, config="kd.yaml", die=(point, n))
        assert done.returncode == -signal.SIGKILL, (point, done.stdout, done.stderr)
        again = ["--resume"]
    done = lab.run("OUTPUT_DIR", "run", "--resume", config="kd.yaml")
    assert done.returncode == 0, done.stderr
    assert lab.same(whole, "run") == []
    assert not list(lab.where.rglob(".*.tmp"))
    count("kills survived", 4)


@pytest.mark.faults
def test_a_first_save_that_ended_before_its_manifest_is_gone_on_from(lab, count) -> None:
    whole = lab.uninterrupted()
    lab.run("OUTPUT_DIR", "run", die=("renamed", 6))
    assert [p.name for p in (lab.where / "run/checkpoints").iterdir()] == ["step_6.pt"]
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "step_6.pt is taken: its save ended before" in done.stdout
    assert lab.same(whole, "run") == []
    count("kills survived")


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_in_every_call_that_touches_the_disk_is_survived(lab, count, point) -> None:
    whole, deaths, n = lab.uninterrupted(), 0, 1
    while True:
        killed = lab.run("OUTPUT_DIR", f"run-{n}", die=(point, n))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = lab.run("OUTPUT_DIR", f"run-{n}", "--resume")
        assert done.returncode == 0, (n, done.stderr)
        assert lab.same(whole, f"run-{n}") == [], n
        deaths, n = deaths + 1, n + (97 if point == "write" else 1)
    assert deaths > 2
    count("kills survived", deaths)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_moments_end_with_the_same_bytes(lab, count, seed) -> None:
    """Images are streamed by workers, whose number changes from run to run."""
    lab.pictures()
    whole = lab.uninterrupted("SOLVER.EPOCHS", "20", config="pictures.yaml")
    moment, kills, code = random.Random(seed), 0, None
    words = ["OUTPUT_DIR", "run", "SOLVER.EPOCHS", "20"]
    while code != 0:
        workers = ("DATASET.WORKERS", str(moment.choice((0, 2, 3))))
        process = lab.start(*words, *workers, *["--resume"] * (kills > 0), config="pictures.yaml")
        while kills < 5 and process.popen.poll() is None:
            if "train " in process.out.read_text():
                time.sleep(moment.uniform(0, 2.5))
                process.signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        code = process.end()[0]
        assert code in (0, -signal.SIGKILL), process.err.read_text()
    assert lab.same(whole, "run") == []
    count("kills survived", kills)
