"""Flipped bits, lost pages and cut files are noticed and named, and the one before is used."""

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kdframe import checkpoint

PAGE = 4096


def broken(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def flip(data: bytearray, bit: int) -> None:
    data[bit // 8] ^= 1 << bit % 8


def zero(data: bytearray, page: int) -> None:
    """As a page that was never written."""
    data[page * PAGE : (page + 1) * PAGE] = bytes(len(data[page * PAGE : (page + 1) * PAGE]))


def shorten(data: bytearray, length: int) -> None:
    del data[length:]


def is_noticed(folder: Path, whole: bytes, path: Path, change: Callable, caplog) -> bool:
    """Whether the newest is passed over by its name for the one before."""
    caplog.clear()
    broken(path, change)
    state = checkpoint.newest(folder)
    path.write_bytes(whole)
    named = "step_18.pt is passed over: " in caplog.text
    return state is not None and state["step"] == 12 and named


@pytest.fixture
def folder(lab) -> Path:
    return lab.copy(lab.uninterrupted(), "run", finished=False) / "checkpoints"


@pytest.mark.parametrize("tries", [100, pytest.param(3000, marks=pytest.mark.faults)])
def test_a_flipped_bit_of_a_checkpoint_is_noticed(folder, caplog, count, tries) -> None:
    path, bits = folder / "step_18.pt", random.Random(0)
    whole = path.read_bytes()
    for _ in range(tries):
        bit = bits.randrange(8 * len(whole))
        assert is_noticed(folder, whole, path, lambda data, b=bit: flip(data, b), caplog), bit
    count("flips noticed", tries, of=tries)


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.faults)])
def test_a_flipped_bit_of_a_manifest_is_noticed(folder, caplog, count, every) -> None:
    path = folder / "step_18.json"
    whole = path.read_bytes()
    tries = range(0, 8 * len(whole), every)
    missed = [
        bit for bit in tries
        if not is_noticed(folder, whole, path, lambda data, b=bit: flip(data, b), caplog)
    ]  # fmt: skip
    assert not missed, [(bit // 8, chr(whole[bit // 8]), bit % 8) for bit in missed]
    count("flips noticed", len(tries), of=len(tries))


def test_a_lost_page_and_a_cut_are_noticed(folder, caplog, count) -> None:
    path = folder / "step_18.pt"
    whole = path.read_bytes()
    pages = [page for page in range(len(whole) // PAGE) if any(whole[page * PAGE :][:PAGE])]
    for page in pages:
        assert is_noticed(folder, whole, path, lambda data, p=page: zero(data, p), caplog), page
    lengths = [0, 1, PAGE, len(whole) // 2, len(whole) - 1]
    for n in lengths:
        for name in ("step_18.pt", "step_18.json"):
            path, kept = folder / name, (folder / name).read_bytes()
            cut = min(n, len(kept) - 2)  # the last byte of a manifest is the end of its line
            assert is_noticed(folder, kept, path, lambda data, c=cut: shorten(data, c), caplog)
    count("lost pages and cuts noticed", len(pages) + 2 * len(lengths))


def test_a_checkpoint_of_another_step_or_run_is_no_newer_one(folder, caplog) -> None:
    """Copied with its manifest under a later name, or with another's."""
    for ending in ("pt", "json"):
        shutil.copy(folder / f"step_12.{ending}", folder / f"step_99.{ending}")
    state = checkpoint.newest(folder)
    assert state is not None and state["step"] == 18
    assert "step_99.pt is passed over: its manifest is of another checkpoint" in caplog.text


def test_names_that_are_not_ours_are_left_alone(folder) -> None:
    for name in ("step_x.json", "step_.pt", "step_99.txt", "notes.json"):
        (folder / name).write_text("mine")
    state = checkpoint.newest(folder)
    assert state is not None and state["step"] == 18


def test_the_one_before_ends_with_the_same_bytes_and_takes_the_broken_ones_place(
    lab, folder, count
) -> None:
    broken(folder / "step_18.pt", lambda data: flip(data, 80_000))
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 0, done.stderr
    assert "step_18.pt is passed over: its digest differs" in done.stdout
    assert "resumed at step 12 of 18" in done.stdout
    assert lab.same(lab.uninterrupted(), "run") == []
    state = checkpoint.newest(folder)
    assert state is not None and state["step"] == 18
    count("flips noticed", 1, of=1)


def test_when_all_are_broken_the_run_ends_with_5_and_names_each(lab, folder) -> None:
    broken(folder / "step_18.pt", lambda data: flip(data, 80_000))
    broken(folder / "step_12.json", bytearray.clear)
    done = lab.run("OUTPUT_DIR", "run", "--resume")
    assert done.returncode == 5
    assert done.stderr == (
        "error: run/checkpoints: no checkpoint is whole; remove the folder to start anew.\n"
    )
    assert "step_18.pt is passed over: its digest differs" in done.stdout
    assert "step_12.pt is passed over: its manifest can't be read" in done.stdout


def test_two_whole_ones_are_kept_whatever_else_is_there(tmp_path, caplog) -> None:
    """One that was passed over doesn't count, though its step is higher."""
    caplog.set_level(logging.WARNING)
    for step in (10, 20, 15):
        if step == 15:
            broken(tmp_path / "step_20.pt", lambda data: flip(data, 900))
            assert checkpoint.newest(tmp_path)["step"] == 10
        checkpoint.save(tmp_path, {"step": step}, step=step, config="c", keep=2)
    assert sorted(p.stem for p in tmp_path.glob("*.pt")) == ["step_10", "step_15"]
