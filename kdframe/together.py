"""How one of several processes fails: the one at fault says why, once, and nobody waits for it."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kdframe import parallel

LOST = (  # what gloo's errors say of a process that is gone, or doesn't answer
    "gloo/", "Connection closed by peer", "Connection reset by peer", "Broken pipe",
    "Application timeout", "Timed out waiting",
)  # fmt: skip
GRACE = 3.0  # seconds in which a process that fails has said so, and one that is well has left


class Gone(RuntimeError):
    """Another process died, hangs, or has said why it ends (``told``)."""

    exit_code = 6

    def __init__(self, message: str, told: bool) -> None:
        super().__init__(message)
        self.told = told


@contextmanager
def together() -> Iterator[None]:
    """While it is entered, the error of one process is an error of all of them.

    An exception is marked ``told`` where another process speaks for this one.

    Raises:
        Gone: it isn't this process that failed.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not dist.is_initialized():
            raise
        if is_of_another(error):
            raise others_fault(error) from error
        marked: Any = error
        marked.told = not mark("failed")
        raise


def announce() -> None:
    """Says to the others where to find this process; they are all to call it."""
    if dist.is_initialized():
        store().set(f"at/{parallel.rank()}", f"{os.getpid()} {socket.gethostname()}")


def is_of_another(error: BaseException) -> bool:
    """Whether that is what an operation of several processes raises when it lacks one."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, dist.DistError) or any(words in str(error) for words in LOST)
    )


def others_fault(error: BaseException) -> Gone:
    """Finds out whose fault it is, speaks for one that can't, and ends it where it hangs."""
    mark(f"left/{parallel.rank()}")
    until = time.monotonic() + GRACE
    while not is_marked("failed"):
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    else:
        return Gone("another process failed", told=True)
    missing = [r for r in range(parallel.world()) if not is_marked(f"left/{r}")]
    sentences = [what_of(rank) for rank in missing]
    told = not mark("failed")
    return Gone("; ".join(sentences) or f"the processes lost each other: {error}", told)


def what_of(rank: int) -> str:
    """What became of a process that hasn't left; one of this machine that hangs is killed.

    torchrun's SIGTERM doesn't reach one that hangs, and its SIGKILL comes half a minute later.
    """
    known = store().get(f"at/{rank}").decode() if is_marked(f"at/{rank}") else "0 nowhere"
    pid, host = known.split()
    who = f"process {rank} of {parallel.world()} (pid {pid} on {host})"
    if host != socket.gethostname():
        return f"{who} has died or hangs"
    if not is_alive(int(pid)):
        return f"{who} was killed, or died without a word"
    with suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGKILL)
    return f"{who} hasn't answered in TIMEOUT"


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number that has not ended yet."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # not on Linux; or it ended just now
        return not Path("/proc/self").exists()
    return not state.startswith("Z")


def mark(name: str) -> bool:
    """Leaves a mark for all processes; whether it is the first of that name."""
    try:
        return int(store().add(name, 1)) == 1
    except dist.DistError:  # kept by a process that is gone
        return True


def is_marked(name: str) -> bool:
    """Whether a process has left that mark."""
    try:
        return bool(store().check([name]))
    except dist.DistError:
        return False


def store() -> dist.distributed_c10d.Store:
    """What torchrun keeps for the processes, under names of our own."""
    kept = dist.distributed_c10d._get_default_store()
    return dist.distributed_c10d.PrefixStore("kdframe", kept)
