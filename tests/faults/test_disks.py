"""A disk that is full, too small or read-only: exit code 4, one line, and what was saved stands."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def disk(lab) -> Iterator[Path]:
    """A disk of its own, of 310 KiB: two checkpoints fit, and a third doesn't."""
    path = lab.where / "disk"
    path.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=310k", "tmpfs", str(path))
    if mounted.returncode:
        pytest.skip(f"a small tmpfs can't be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def mount(*words: str) -> subprocess.CompletedProcess[str]:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["mount", *words], capture_output=True, text=True)
    return subprocess.CompletedProcess(words, 1, "", "there is no mount")


def test_on_a_full_disk_the_last_checkpoint_stands_and_with_more_room_the_run_goes_on(
    lab, disk, count
) -> None:
    whole, run = lab.uninterrupted(), str(disk / "run")
    done = lab.run("OUTPUT_DIR", run)
    assert done.returncode == 4, done.stderr
    assert done.stderr == f"error: {run}/checkpoints/step_18.pt: No space left on device\n"
    names = sorted(p.name for p in (disk / "run/checkpoints").iterdir())
    assert names == ["step_12.json", "step_12.pt", "step_6.json", "step_6.pt"]
    assert mount("-o", "remount,ro", str(disk)).returncode == 0
    done = lab.run("OUTPUT_DIR", run, "--resume")
    assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
    assert mount("-o", "remount,rw,size=20m", str(disk)).returncode == 0
    done = lab.run("OUTPUT_DIR", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert "resumed at step 12 of 18" in done.stdout
    assert lab.same(whole, run) == []
    count("full and read-only disks answered", 2)


@pytest.mark.faults
def test_a_file_that_may_not_grow_ends_the_run_with_its_name(lab, count) -> None:
    """As under ``ulimit -f`` and a quota."""
    whole = lab.uninterrupted()
    done = lab.run("OUTPUT_DIR", "run", limit=60_000)
    assert done.returncode == 4, done.stderr
    assert done.stderr == "error: run/checkpoints/step_6.pt: File too large\n"
    assert list((lab.where / "run/checkpoints").iterdir()) == []
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "run holds no checkpoint yet: the run starts at step 0" in done.stdout
    assert lab.same(whole, "run") == []
    count("full and read-only disks answered")


@pytest.mark.faults
@pytest.mark.parametrize("size", [40, 80, 150, 260, 330, 350, 370, 390])
def test_a_disk_of_any_size_ends_in_one_line_or_in_the_whole_run(lab, disk, count, size) -> None:
    """In KiB: from one that has no room for the config to one that lacks it for the results."""
    whole, run = lab.uninterrupted(), str(disk / "run")
    assert mount("-o", f"remount,size={size}k", str(disk)).returncode == 0
    done = lab.run("OUTPUT_DIR", run)
    assert done.returncode in (0, 4) and done.stderr.count("\n") == (done.returncode == 4)
    assert mount("-o", "remount,size=20m", str(disk)).returncode == 0
    done = lab.run("OUTPUT_DIR", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert lab.same(whole, run) == []
    count("full and read-only disks answered")
