"""From an exception to one line on stderr and an exit code.

0 done; 1 a fault of kdframe's own; 2 the user's; 3 diverged; 4 storage; 5 no whole checkpoint where
one is needed; 6 a worker, a process, memory or descriptors gave out; 130, 143 stopped by SIGINT,
SIGTERM; 141 whoever read what is printed went away.
"""

import errno
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from kdframe.values import ConfigError, one_line

STORAGE = {
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
}
NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR}  # of a file or a folder
MAIN = threading.main_thread()  # no other may set a signal's handler
IMPORTING = "<frozen importlib._bootstrap>"  # the file of the frames of an import
GONE = 128 + signal.SIGPIPE
FEW_DESCRIPTORS = "too few file descriptors: raise them (ulimit -n), or lower DATASET.WORKERS."
FULL_SHM = (
    "/dev/shm is full: batches go from workers to training through it; enlarge it, or set "
    "DATASET.WORKERS 0."
)
SPENT = {  # what is said where something gave out, and what helps
    "Too many open files": FEW_DESCRIPTORS,
    "received 0 items of ancdata": FEW_DESCRIPTORS,
    f"exited unexpectedly with exit code {errno.EMFILE}": FEW_DESCRIPTORS,
    "unable to allocate shared memory": FULL_SHM,
    "is killed by signal: Bus error": FULL_SHM,
    f"exited unexpectedly with exit code {errno.ENOSPC}": FULL_SHM,
    f"exited unexpectedly with exit code {errno.ENOMEM}": "a worker ran out of memory.",
    "can't allocate memory": "there isn't enough memory: {}",
    "can't start new thread": "no further thread can be started (ulimit -u).",
    "Resource temporarily unavailable": "no further process can be started (ulimit -u).",
}

PAUSE = 2.0  # seconds in which the process that speaks has spoken


def answered(work: Callable[[], None], debug: bool = False) -> int:
    """Runs ``work``; a failure is one line on stderr, with its traceback only for ``debug``.

    Where the reader of stdout went away (``| head``), it ends without a word, as Unix tools do.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed (``>&-``): the next file would take its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler and threading.current_thread() is MAIN
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        try:
            work()
        finally:
            sys.stdout.flush()  # here, and not when nobody can answer any more
    except (Exception, KeyboardInterrupt) as error:
        if is_gone() and isinstance(error, BrokenPipeError):
            return GONE
        if debug:
            traceback.print_exc()
        if is_told(error):
            time.sleep(PAUSE)  # torchrun ends all of them when the first one ends
        else:
            print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        if several():
            leave(code_of(error))
        sys.last_value = error  # what it holds lives until the end: dying now, it would complain
        return code_of(error)
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
    return 0


def interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, as Python's own answer to SIGINT; but in an import, the end.

    Libraries that are being imported swallow it, or make it a fault of theirs.
    """
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            print(f"error: {sentence(KeyboardInterrupt())}", file=sys.stderr, flush=True)
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def is_gone() -> bool:
    """Whether nobody reads stdout any more; what it doesn't take then goes nowhere."""
    look, gone = select.poll(), False
    with suppress(OSError, ValueError):  # a stdout that is no file, as in a notebook
        look.register(sys.stdout.fileno(), 0)
        gone = any(flags & (select.POLLERR | select.POLLHUP) for _, flags in look.poll(0))
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def several() -> bool:
    """Whether this is one of several processes, by what torchrun tells each."""
    said = os.environ.get("WORLD_SIZE", "")
    return said.isdecimal() and int(said) > 1


def is_told(error: BaseException) -> bool:
    """Whether another of several processes says it: the config's errors are the same for all."""
    another = several() and os.environ.get("LOCAL_RANK", "0") != "0"
    return bool(getattr(error, "told", another and isinstance(error, ConfigError)))


def leave(code: int) -> None:
    """Ends this process as it is: to end in order is to wait for processes that don't answer."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(code)


def code_of(error: BaseException) -> int:
    """The exit code; an exception may carry its own as ``exit_code``."""
    if isinstance(error, ConfigError) or (isinstance(error, OSError) and error.errno in NO_PATH):
        return 2
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and error.errno in STORAGE:
        return 4
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or spent(error):
        return 6
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return 6
    return int(getattr(error, "exit_code", 1))


def spent(error: BaseException) -> str:
    """What gave out, if it is that; torch and workers say so in many types and languages."""
    if not isinstance(error, OSError | RuntimeError):
        return ""
    said = str(error)
    last = said.strip().rpartition("\n")[2]
    return next((answer.format(last) for sign, answer in SPENT.items() if sign in said), "")


def sentence(error: BaseException) -> str:
    """What an exception says, in one line; a fault of our own says where to look."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    if isinstance(error, ConfigError):
        return str(error)
    if answer := spent(error):
        return one_line(answer)
    lines = [one_line(line.strip()) for line in str(error).splitlines() if line.strip()]
    if code_of(error) == 1:
        text = f"{type(error).__name__}: {lines[0] if lines else ''}"
        where = "".join(f"{note}; " for note in getattr(error, "__notes__", ())[:1])
        return f"{text} ({where}a fault of kdframe or of a part; --debug shows where)"
    if isinstance(error, OSError):
        return f"{error.filename or 'storage'}: {error.strerror or error}"
    return lines[-1] if lines else type(error).__name__
