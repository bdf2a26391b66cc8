"""Signals set a flag; the loop looks at it between two steps."""

import signal
from types import FrameType, TracebackType
from typing import Self

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Signals:
    """While it is entered, ``asked()`` returns the number of the signal that came last, once.

    SIGINT and SIGTERM ask to stop, and win over SIGUSR1, which asks to save; a second SIGINT
    leaves at once by KeyboardInterrupt.
    """

    def __enter__(self) -> Self:
        self.flag = 0
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
        if number == self.flag == signal.SIGINT:
            raise KeyboardInterrupt
        if self.flag in (0, signal.SIGUSR1):
            self.flag = number

    def asked(self) -> int:
        number = int(self.flag)
        if number == signal.SIGUSR1:
            self.flag = 0
        return number
