"""One run a folder: a lock that the kernel frees when its process dies, however it dies.

It is POSIX (``lockf``), which children don't inherit: a loader's workers that outlive their process
hold nothing.
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from kdframe.config import ConfigError
from kdframe.writing import no_link

NAME = ".lock"
PAUSE = 0.5  # seconds between two tries of one that waits
LOOK = 0.1  # seconds, in which another process's look at a lock is over


def taken(folder: Path, wait: Callable[[], None] | None) -> IO[str]:
    """The file of a folder's lock, once this process has it: until it is closed.

    It says process, host and time.  ``wait`` is called now and then while another process has it;
    None: that is an error.

    Raises:
        ConfigError: another process has it; the message names it.
    """
    while True:
        file = os.fdopen(no_link(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")
        if not is_free(file):
            message = in_use(folder, file)
            if wait is None:
                file.close()
                raise ConfigError(message)
            logging.getLogger("kdframe").info("%s Waiting for it.", message)
            while not is_free(file):
                wait()
                time.sleep(PAUSE)
        if is_at(file, folder / NAME):
            file.truncate(0)
            since = time.strftime("%F %T")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
            file.flush()
            return file
        file.close()  # the process that had it has removed the folder with it
        folder.mkdir(parents=True, exist_ok=True)


def refuse_busy(folder: Path) -> None:
    """Looks whether another process has the lock, without taking it.

    Raises:
        ConfigError: it has; the message names it.
    """
    if (folder / NAME).exists():
        with (folder / NAME).open() as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(in_use(folder, file)) from None


def is_free(file: IO[str]) -> bool:
    """Takes the lock if it can be had; a second try is for those who only looked."""
    for pause in (0.0, LOOK):
        time.sleep(pause)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at ``path``, and wasn't removed or replaced there."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def in_use(folder: Path, file: IO[str]) -> str:
    """What one is told who can't have the lock."""
    file.seek(0)
    who = file.read().strip() or "another process"
    return f"OUTPUT_DIR: {folder} is in use by {who}."
