"""A loop in a process of its own, which takes its turns with this one's.

kdframe changes how its process allocates memory (``kdframe.allocator``), and a loop that is written
by hand would be given that too.
"""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.clock import Work


class Apart:
    """Work that ``make(*args)`` gives, in a new process on one thread; one call is one turn.

    Its time is told by ``seconds``, as that process's CPU clock has it.
    """

    def __init__(self, make: Callable[..., Work], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, make, args), daemon=True)
        self.process.start()
        other.close()

    def __call__(self) -> None:
        self.seconds(1)

    def seconds(self, repeats: int) -> float:
        """CPU seconds of one, of that many in a row.

        Raises:
            EOFError: the process died.
        """
        self.line.send(repeats)
        took: float = self.line.recv()
        return took

    def close(self) -> None:
        """Ends the process."""
        self.line.close()
        self.process.join()


def serve(line: Connection, make: Callable[..., Work], args: tuple[Any, ...]) -> None:
    """Works when it is asked, until nobody is there any more."""
    torch.set_num_threads(1)
    work = make(*args)
    while True:
        try:
            repeats = line.recv()
        except EOFError:
            return
        started = time.process_time()
        for _ in range(repeats):
            work()
        line.send((time.process_time() - started) / repeats)
