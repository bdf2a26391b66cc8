"""What a save costs beside a plain torch.save of the same state: ``python -m benchmarks.saving``.

A state is a ResNet-50's size of weights and as many numbers of momentum.  All are measured on the
wall clock and on the process's own, in turns.  "plain" is ``torch.save`` over the last one, as a
script does it, which neither digests nor waits for the disk; "plain, a new file" is spared the
removal of an older one, which the others pay for; "plain + fsync" would survive a power cut.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdframe import checkpoint

NUMBERS = 25_557_032  # of a ResNet-50


def main() -> None:
    """Prints the medians and the ratios."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--folder", type=Path, help="on the disk to measure")
    p.add_argument("--numbers", type=int, default=NUMBERS, help="parameters (%(default)s)")
    p.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for line in report(Path(folder), args.numbers, args.rounds):
            print(line)


def report(folder: Path, numbers: int, rounds: int) -> list[str]:
    """A line a way of saving: median seconds, and their ratio to the plain one."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(numbers // 50, generator=generator) for _ in range(2 * 50)]
    state: dict[str, Any] = {"step": 0, "tensors": dict(enumerate(tensors))}
    ways: dict[str, Callable[[int], object]] = {
        "plain": lambda i: torch.save(state, folder / "plain.pt"),
        "plain, a new file": lambda i: torch.save(state, folder / f"new_{i}.pt"),
        "plain + fsync": lambda i: synced(state, folder / "synced.pt"),
        "kdframe": lambda i: checkpoint.save(folder / "c", state, step=i, config="", keep=2),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for i in range(2 + rounds):  # the first two have no older one to remove
        state["step"] = i
        first = i % len(ways)  # who follows whom changes
        for name in (*list(ways)[first:], *list(ways)[:first]):
            os.sync()
            wall, cpu = time.perf_counter(), time.process_time()
            ways[name](i)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            for path in folder.glob("new_*.pt"):
                path.unlink()
    medians = {
        name: [statistics.median(column) for column in zip(*rows[2:], strict=True)]
        for name, rows in times.items()
    }
    wall, cpu = medians["plain"]
    return [
        f"{name:18} {took:6.3f} s ({took / wall:4.2f} x plain)  "
        f"{busy:6.3f} s of CPU ({busy / cpu:4.2f} x plain)"
        for name, (took, busy) in medians.items()
    ]


def synced(state: dict[str, Any], path: Path) -> None:
    """A plain save that is on the disk when it returns."""
    torch.save(state, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
