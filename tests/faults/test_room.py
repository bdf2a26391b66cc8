"""OUTPUT_DIR without room for two checkpoints, measured before the first step."""

import re
import subprocess

import pytest


@pytest.fixture
def small(lab):
    """A disk of 256 kB in the lab's folder."""
    folder = lab.where / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_without_room_for_two_checkpoints_no_step_is_made(lab, small, count) -> None:
    done = lab.run(
        "OUTPUT_DIR", "small/run", "STUDENT.WIDTH", "16", "SOLVER.OPTIMIZER", "adamw", "SOLVER.EMA",
        "0.9",
    )  # fmt: skip
    assert done.returncode == 4
    said = r"error: small/run: 2 checkpoints take (\S+) MB, and (\S+) MB are free\n"
    found = re.fullmatch(said, done.stderr)
    assert found, done.stderr
    assert not list(small.rglob("*.pt")) and "train" not in done.stdout
    roomy = lab.run("OUTPUT_DIR", "run", "STUDENT.WIDTH", "16", "SOLVER.EMA", "0.9")
    assert roomy.returncode == 0
    sizes = [p.stat().st_size / 1e6 for p in (lab.where / "run/checkpoints").glob("*.pt")]
    assert len(sizes) == 2 and 0.8 * sum(sizes) < float(found[1]) <= sum(sizes)
    count("full disks found before step 0")


def test_a_run_whose_checkpoints_fit_is_not_refused(lab, small) -> None:
    done = lab.run("OUTPUT_DIR", "small/run", "STUDENT.WIDTH", "2", "SOLVER.EPOCHS", "1")
    assert done.returncode == 0, done.stderr
