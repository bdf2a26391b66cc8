"""Signals set a flag; the loops of a run look at it between two steps or batches."""

import signal
from types import FrameType, TracebackType
from typing import Self

STOPPING = (signal.SIGINT, signal.SIGTERM)
WATCHED = (*STOPPING, signal.SIGUSR1)
SAVED = "--resume goes on from here"
LOST_NOTHING = "it had made no step that could be lost"


class Stopped(RuntimeError):
    """A signal asked to stop, and how one goes on."""

    def __init__(self, number: int, how: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {how}")
        self.exit_code = 128 + number


def stop_if(number: int, how: str = LOST_NOTHING) -> None:
    """For moments that have nothing to save.

    Raises:
        Stopped: that signal asks to stop.
    """
    if number in STOPPING:
        raise Stopped(number, how)


class Signals:
    """While it is entered, ``asked()`` returns the number of the signal that came last, once.

    SIGINT and SIGTERM ask to stop, and win over SIGUSR1, which asks to save; a second SIGINT
    leaves at once by KeyboardInterrupt.
    """

    def __enter__(self) -> Self:
        self.flag, self.interrupted = 0, False
        self.before = {number: signal.signal(number, self.set) for number in WATCHED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def set(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
        if self.flag not in STOPPING:
            self.flag = number

    def asked(self) -> int:
        number = int(self.flag)
        if number == signal.SIGUSR1:
            self.flag = 0
        return number
