"""Time and memory of a piece of work; several pieces take turns, so that slow moments hit all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmarks.memory import Peak

SHORTEST = 0.02  # seconds; shorter work is repeated to be measured
Work = Callable[[], object]


def in_turns(
    works: Mapping[str, Work], rounds: int, device: torch.device, shortest: float = SHORTEST
) -> dict[str, list[float]]:
    """The seconds of every work, ``rounds`` times, after a warm-up that isn't counted."""
    repeats = {
        name: max(1, round(shortest / max(warm_up(work, device), 1e-9)))
        for name, work in works.items()
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        order = list(works)[:: 1 if turn % 2 == 0 else -1]  # who follows whom changes
        for name in order:
            times[name].append(seconds(works[name], repeats[name], device))
    return times


def warm_up(work: Work, device: torch.device) -> float:
    """The seconds of the second time: the first chooses algorithms and fills caches."""
    work()
    return seconds(work, 1, device)


def seconds(work: Work, repeats: int, device: torch.device) -> float:
    """Of one ``work``: CUDA's clock on a GPU, else this process's CPU time."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / repeats
    if hasattr(work, "seconds"):  # in another process, whose clock it is
        return float(work.seconds(repeats))
    started = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - started) / repeats


def memory(work: Work, device: torch.device) -> int:
    """The most bytes that ``work`` takes beyond what is there: CUDA's count, or that of tensors."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with Peak() as peak:
        work()
    return peak.bytes


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def median(values: Sequence[float]) -> float:
    """Of one or more."""
    return statistics.median(values)
