"""One writer: the old file or the whole new one, and nothing left behind."""

import errno
import hashlib
import os
import resource
import socket
import stat
import subprocess
import sys
import time

import pytest

from kdframe import lock, writing


def test_a_full_disk_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "file"
    writing.write_text(path, "old")

    def writer(sink):
        sink.write(b"half of the new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        writing.write(path, writer)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_number_that_is_not_finite_is_not_written(tmp_path) -> None:
    with pytest.raises(ValueError):
        writing.write_json(tmp_path / "r.json", {"top1": float("nan")})
    assert not (tmp_path / "r.json").exists()


def test_size_and_digest_are_those_of_the_file(tmp_path) -> None:
    size, sha256 = writing.write(tmp_path / "f", lambda sink: [sink.write(b"ab"), sink.write(b"c")])
    assert size == 3 and sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (tmp_path / "f").read_bytes() == b"abc"


def test_long_pieces_between_short_ones_are_digested_and_written_in_their_order(tmp_path) -> None:
    pieces = [bytes([i]) * (writing.LONG + i if i % 3 else 5) for i in range(40)]  # 27 MiB
    assert sum(map(len, pieces)) > writing.HURRY
    size, sha256 = writing.write(tmp_path / "f", lambda sink: [sink.write(p) for p in pieces])
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)
    assert size == len(b"".join(pieces))
    assert sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_full_disk_within_a_long_piece_is_told_too(tmp_path) -> None:
    """Which another thread writes."""

    def writer(sink):
        sink.write(b"short")
        resource.setrlimit(resource.RLIMIT_FSIZE, (writing.LONG, hard))
        sink.write(bytes(2 * writing.LONG))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="large") as caught:
            writing.write(tmp_path / "f", writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path, monkeypatch
) -> None:
    """What a power cut leaves depends on this order alone."""
    did = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: did.append(kind(f)) or fsync(f))
    monkeypatch.setattr(os, "replace", lambda a, b: did.append("rename") or replace(a, b))
    writing.write_text(tmp_path / "f", "x")
    assert did == ["file", "rename", "folder"]


def kind(descriptor: int) -> str:
    return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"


def test_a_full_disk_says_whose_file_had_no_room(tmp_path) -> None:
    def writer(sink):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError) as error:
        writing.write(tmp_path / "f", writer)
    assert error.value.filename == str(tmp_path / "f")


def test_a_full_disk_is_told_as_one_though_the_writer_tells_another_story(tmp_path) -> None:
    """torch.save ends in a RuntimeError of its zip writer."""

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def writer(sink):
        sink.file = Full()
        try:
            sink.write(b"x")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None

    with pytest.raises(OSError, match="No space"):
        writing.write(tmp_path / "f", writer)
    assert list(tmp_path.iterdir()) == []


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    host, dead = socket.gethostname(), int(done.stdout)
    left, lives, mine, elsewhere, old = (
        tmp_path / f".step_7.pt.{host}.{dead}.tmp",
        tmp_path / f".step_7.pt.{host}.{os.getppid()}.tmp",
        writing.temporary_of(tmp_path / "step_7.pt"),
        tmp_path / f".step_7.pt.other-{host}.{dead}.tmp",
        tmp_path / f".step_6.pt.other-{host}.{dead}.tmp",
    )
    for path in (left, lives, mine, elsewhere, old):
        path.touch()
    long_ago = time.time() - 2 * writing.ABANDONED
    os.utime(old, (long_ago, long_ago))
    writing.clear_strays(tmp_path)
    found = [p.exists() for p in (left, lives, mine, elsewhere, old)]
    assert found == [False, True, True, True, False]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / lock.NAME).symlink_to("precious")
    with pytest.raises(OSError, match="Too many levels"):
        lock.taken(tmp_path, None)
    assert (tmp_path / "precious").read_text() == "precious"


def test_an_export_that_was_killed_goes_as_well(tmp_path) -> None:
    """It is a folder."""
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    left = tmp_path / f".export.{socket.gethostname()}.{int(done.stdout)}.tmp"
    left.mkdir()
    (left / "model.pt2").touch()
    link, target = left.with_name(left.name.replace("export", "link")), tmp_path / "target"
    target.mkdir()
    link.symlink_to(target)
    writing.clear_strays(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
