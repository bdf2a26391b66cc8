"""Runs a script that kills itself in the n-th call of what puts files on a disk.

``breaking.py POINT N SCRIPT ARGS``, where POINT is

    write    half of what the n-th piece of a digested file holds is written
    fsync    before the n-th fsync
    replace  before the n-th rename
    renamed  after it
    unlink   before the n-th removal
    measure  it lives, but a SIGTERM comes while the n-th batch is measured
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

from kdframe.evaluation import Tally
from kdframe.writing import Digesting

LEFT = int(sys.argv[2])


def dies() -> bool:
    """Whether this call is the n-th."""
    global LEFT
    LEFT -= 1
    return LEFT == 0


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Callable[..., Any]) -> Callable[..., Any]:
    def broken(*args: Any, **named: Any) -> Any:
        if dies():
            end()
        return call(*args, **named)

    return broken


def after(call: Callable[..., Any]) -> Callable[..., Any]:
    def broken(*args: Any, **named: Any) -> Any:
        answer = call(*args, **named)
        if dies():
            end()
        return answer

    return broken


def write(self: Digesting, data: Any) -> int:
    if dies():
        self.file.write(memoryview(data)[: len(data) // 2])
        self.file.flush()
        end()
    return whole_write(self, data)


def measuring(add: Callable[..., Any]) -> Callable[..., Any]:
    def told(*args: Any) -> Any:
        if dies():
            os.kill(os.getpid(), signal.SIGTERM)
        return add(*args)

    return told


whole_write = Digesting.write
point = sys.argv[1]
if point == "write":
    Digesting.write = write  # type: ignore[method-assign]
elif point == "fsync":
    os.fsync = before(os.fsync)
elif point == "replace":
    os.replace = before(os.replace)
elif point == "renamed":
    os.replace = after(os.replace)
elif point == "unlink":
    os.unlink = before(os.unlink)
elif point == "measure":
    Tally.add = measuring(Tally.add)  # type: ignore[method-assign]
else:
    raise SystemExit(f"no point {point!r}")
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
