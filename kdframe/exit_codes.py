"""From an exception to one line on stderr and an exit code.

0 done; 1 a fault of kdframe's own; 2 the user's; 3 diverged; 4 storage; 5 no whole checkpoint where
one is needed; 6 a worker, a process or memory died; 130, 143 stopped by SIGINT, SIGTERM.
"""

import errno
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from kdframe.config import ConfigError

STORAGE = {
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
}

PAUSE = 2.0  # seconds in which the process that speaks has spoken


def answered(work: Callable[[], None], debug: bool = False) -> int:
    """Runs ``work``; a failure is one line on stderr, with its traceback only for ``debug``."""
    try:
        work()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        if is_told(error):
            time.sleep(PAUSE)  # torchrun ends all of them when the first one ends
        else:
            print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            leave(code_of(error))
        return code_of(error)
    return 0


def is_told(error: BaseException) -> bool:
    """Whether another of several processes says it: the config's errors are the same for all."""
    others = isinstance(error, ConfigError) and os.environ.get("LOCAL_RANK", "0") != "0"
    return bool(getattr(error, "told", others))


def leave(code: int) -> None:
    """Ends this process as it is: to end in order is to wait for processes that don't answer."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(code)


def code_of(error: BaseException) -> int:
    """The exit code; an exception may carry its own as ``exit_code``."""
    if isinstance(error, ConfigError):
        return 2
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and error.errno in STORAGE:
        return 4
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return 6
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return 6
    return int(getattr(error, "exit_code", 1))


def sentence(error: BaseException) -> str:
    """What an exception says, in one line; a fault of our own says where to look."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if code_of(error) == 1:
        text = f"{type(error).__name__}: {lines[0] if lines else ''}"
        where = "".join(f"{note}; " for note in getattr(error, "__notes__", ())[:1])
        return f"{text} ({where}a fault of kdframe or of a part; --debug shows where)"
    if isinstance(error, OSError):
        return f"{error.filename or 'storage'}: {error.strerror or error}"
    return lines[-1] if lines else type(error).__name__
