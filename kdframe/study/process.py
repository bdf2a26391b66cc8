"""A run's process, from the study's side."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kdframe.signals import STOPPING
from kdframe.study.planning import Planned, settle_link

POLL = 0.2  # seconds
PATIENCE = 30.0  # seconds that a process has which was asked to stop before its first step
PREFIX = "error: "
STOPPED = tuple(128 + number for number in STOPPING)
GOES_ON = "the same command goes on from here"
LIVES = 3  # processes that a run may lose, all workers together, until it has failed
Event = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended: its exit code, and its last line on stderr."""

    code: int
    message: str

    @property
    def done(self) -> bool:
        """To the end."""
        return self.code == 0

    @property
    def stopped(self) -> bool:
        """By a signal, with a checkpoint where there was a step."""
        return self.code in STOPPED

    @property
    def died(self) -> bool:
        """It, a worker of it or its memory gave out."""
        return self.code == 6


def attend(
    planned: Planned,
    *,
    asked: Callable[[], int] = lambda: 0,
    told: Callable[[Event], bool] = lambda event: True,
    test: bool = True,
    debug: bool = False,
) -> Outcome:
    """Runs a run to its end, in a process of its own that ends when this one does.

    Args:
        planned: the run.
        asked: polled; the signal to hand on to the run, 0 for none.
        told: called with every event; False stops the run.
        test: read the test split at the end.
        debug: show the traceback of an error.
    """
    settle_link(planned)
    listen, events = os.pipe()
    alive, hold = os.pipe()
    order = {
        "file": str(planned.file),
        "words": planned.settings(),
        "at": planned.at,
        "digest": planned.digest,
        "folder": str(planned.folder),
        "command": planned.command(),
        "test": test,
        "events": events,
        "alive": alive,
    }
    words = [sys.executable, "-m", "kdframe.study.child", json.dumps(order)]
    with tempfile.TemporaryFile("w+") as stderr, os.fdopen(listen, "rb", buffering=0) as pipe:
        process = subprocess.Popen(
            words + ["--debug"] * debug,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(events, alive),
            start_new_session=True,  # a terminal's Ctrl-C reaches the study, which hands it on
        )
        os.close(events)
        os.close(alive)
        try:
            stop = watch(process, pipe.fileno(), asked, told)
        finally:
            os.close(hold)  # whatever happened here, the run doesn't go on unseen
        stderr.seek(0)
        return outcome(process.returncode, stop, stderr.read(), debug)


def watch(
    process: subprocess.Popen[bytes],
    pipe: int,
    asked: Callable[[], int],
    told: Callable[[Event], bool],
) -> int:
    """Hears what a process tells, and stops it when it should; returns the signal that asked to.

    Before its first event a process may have no answer to a signal but Python's own: SIGINT would
    be an error of whatever it imports, and SIGUSR1, which asks to save, the end of it.
    """
    begun, saves, stop, since = False, False, 0, 0.0
    for event in lines(process, pipe):
        begun = begun or event is not None
        number = asked()
        saves = saves or number == signal.SIGUSR1
        if event is not None and not told(event) and number not in STOPPING:
            number = signal.SIGTERM
        if number in STOPPING and not stop:
            stop, since = number, time.monotonic()
            process.send_signal(stop if begun else signal.SIGTERM)
        if saves and begun and not stop:
            saves = False
            process.send_signal(signal.SIGUSR1)
        if stop and not begun and time.monotonic() - since > PATIENCE:
            process.kill()  # it waits for another process's lock, or reads data: nothing to save
    return stop


def lines(process: subprocess.Popen[bytes], pipe: int) -> Iterator[Event | None]:
    """The events of a process until it ends; None whenever there was none for a while."""
    rest = b""
    while True:
        ended = process.poll() is not None
        ready, _, _ = select.select([pipe], [], [], 0 if ended else POLL)
        data = os.read(pipe, 65536) if ready else b""
        if not data:
            if ended:
                return
            if ready:  # its end of the pipe is closed, and it is about to end
                time.sleep(POLL)
            yield None
            continue
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield json.loads(line)


def outcome(code: int, stop: int, stderr: str, debug: bool) -> Outcome:
    """Reads what a process left; ``stop`` is the signal that it was asked to stop by, if it was."""
    if debug and stderr:
        print(stderr, end="", file=sys.stderr)
    if stop and (code < 0 or code in STOPPED):
        return Outcome(128 + stop, f"stopped by {signal.Signals(stop).name}")
    if code < 0:
        name = signal.Signals(-code).name
        return Outcome(6, f"its process was ended by {name}, maybe for want of memory")
    said = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith(PREFIX)]  # what libraries say may follow it
    last = [f"it ended with exit code {code}", *said, *errors][-1]
    return Outcome(code, last.removeprefix(PREFIX))
