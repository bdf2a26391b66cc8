"""What the console shows of many runs: one bar for all and one for the run in hand."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from kdframe.study.process import Event


class Display:
    """Bars on a terminal; elsewhere a line where a run begins and where it ends."""

    def __init__(self, name: str, total: int) -> None:
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.bars = Progress(
            TextColumn("{task.fields[name]}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.total, self.ended = total, 0
        self.all = self.bars.add_task("", total=total, name=name)
        self.run: TaskID | None = None

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line)

    def count(self, ended: int) -> None:
        """So many runs are at their end, here or elsewhere."""
        self.ended = ended
        self.bars.update(self.all, completed=ended, description=f"{ended}/{self.total} runs")

    def begin(self, key: str, state: str) -> None:
        """A run is in hand."""
        self.since = time.monotonic()
        how = {"begun": "goes on", "failed": "is tried again"}.get(state, "begins")
        if self.bars.disable:
            self.say(f"[{self.ended + 1}/{self.total}] {key} {how}")
        self.run = self.bars.add_task("starts", total=None, name=key)

    def told(self, event: Event) -> bool:
        """What the run in hand told; it may go on."""
        if self.run is not None:
            val = event.get("metrics", {}).get("val/top1")
            self.val = self.val if val is None else f"  val {val:.2f} %"
            self.bars.update(
                self.run,
                total=event["steps"],
                completed=event["step"],
                description=f"epoch {event['epoch']}/{event['epochs']}{self.val}",
            )
        return True

    val = ""

    def end(self, key: str, how: str) -> None:
        """The run in hand is at its end."""
        if self.run is not None:
            self.bars.remove_task(self.run)
        self.run, self.val = None, ""
        self.say(f"{key}: {how} ({time.monotonic() - self.since:.0f} s)")
