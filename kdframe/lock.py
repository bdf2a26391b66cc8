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
LOOK = 0.1  # seconds between two tries, in which another process's look at a lock is over
LOOKS = 6  # tries, after which a process that was killed has let go


def taken(folder: Path, wait: Callable[[], None] | None) -> IO[str]:
    """The file of a folder's lock, once this process has it: until it is closed.

    It says process, host and time.  ``wait`` is called now and then while another process has it;
    None: that is an error.

    Raises:
        ConfigError: another process has it; the message names it.
    """
    while True:
        file = opened(folder)
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


def opened(folder: Path) -> IO[str]:
    """The file of a folder's lock, to read and to append to."""
    return os.fdopen(no_link(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")


def refuse_busy(folder: Path) -> None:
    """Looks whether another process has the lock, without taking it.

    Raises:
        ConfigError: it has; the message names it.
    """
    if (folder / NAME).exists():
        with (folder / NAME).open() as file:
            if not is_free(file, fcntl.LOCK_SH):
                raise ConfigError(in_use(folder, file))


def is_free(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock if it can be had now, or soon: from one who only looked, or is dying."""
    for look in range(LOOKS):
        time.sleep(LOOK if look else 0)
        try:
            fcntl.lockf(file, how | fcntl.LOCK_NB)
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
