"""The one writer of files that matter: the old file or the whole new one, whatever happens."""

import hashlib
import io
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"
ABANDONED = 24 * 3600  # seconds after which another machine's temporary file has no writer any more
LONG = 2**20  # bytes of a piece that a thread of its own writes: a shorter one is done sooner here
HURRY = 2**24  # bytes after which the disk is told to begin


class Digesting(io.RawIOBase):
    """A file that is only written to, and digested on the way; ``helper`` writes long pieces."""

    def __init__(self, file: io.BufferedWriter, helper: ThreadPoolExecutor) -> None:
        self.file, self.helper, self.sha256 = file, helper, hashlib.sha256()
        self.size = self.begun = 0
        self.fault: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(data) < LONG:
            self.sha256.update(data)
            return self.put(data)
        putting = self.helper.submit(self.put, data)
        try:
            self.sha256.update(data)  # takes longer, so it is what this thread does
        finally:
            written = putting.result()  # the bytes are the caller's, and may be gone after this
        return written

    def put(self, data: Any) -> int:
        try:
            written = self.file.write(data)
            self.size += written
            if self.size - self.begun > HURRY:
                self.hurry()
        except OSError as error:
            self.fault = error  # torch.save puts an error of its own in its place
            raise
        return written

    def hurry(self) -> None:
        """Has the disk begin with what it was given, so that the last wait for it is short."""
        if hasattr(os, "posix_fadvise"):
            self.file.flush()
            done, length = self.begun, self.size - self.begun
            os.posix_fadvise(self.file.fileno(), done, length, os.POSIX_FADV_DONTNEED)
        self.begun = self.size


def write(path: Path, writer: Callable[[Digesting], Any]) -> tuple[int, str]:
    """Writes a file so that ``path`` is either the old file or the whole new one.

    Returns:
        Its size in bytes and its SHA-256.

    Raises:
        OSError: the disk is full, or the folder can't be written; ``path`` is as it was.
    """
    temporary = temporary_of(path)
    try:
        with temporary.open("wb") as file, ThreadPoolExecutor(1) as helper:
            sink = Digesting(file, helper)
            try:
                writer(sink)
            finally:
                if sink.fault is not None:
                    raise sink.fault
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        settle(path.parent)
    except OSError as error:
        if error.filename is None:  # a full disk doesn't say whose file had no room
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return sink.size, sink.sha256.hexdigest()


def write_text(path: Path, text: str) -> None:
    """``write`` for a string."""
    write(path, lambda sink: sink.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write`` for a mapping; a number that isn't finite is an error, not a NaN in the file."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def no_link(path: str | Path, flags: int) -> int:
    """An ``opener`` for ``open``: a link in somebody's run folder leads to no file outside it."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def settle(folder: Path) -> None:
    """Makes what was renamed or removed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_of(path: Path) -> Path:
    """The name under which this process writes a file, which says whose it is."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY}")


def clear_strays(folder: Path) -> None:
    """Removes what dead processes were writing, files or folders; what living ones write stays.

    Of other machines' processes only those that nobody has written to for a day.
    """
    here = f".{socket.gethostname()}."
    for stray in folder.glob(f".*{TEMPORARY}"):
        whose, _, pid = stray.name.removesuffix(TEMPORARY).rpartition(".")
        if f"{whose}.".endswith(here):
            dead = not alive(pid)
        else:
            dead = stray.exists() and time.time() - stray.stat().st_mtime > ABANDONED
        if dead and stray.is_dir() and not stray.is_symlink():  # of an export
            shutil.rmtree(stray)
        elif dead:
            stray.unlink(missing_ok=True)


def alive(pid: str) -> bool:
    """Whether there is a process of that number here."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
