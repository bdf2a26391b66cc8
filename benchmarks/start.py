"""How long it takes until something happens: an answer to -h, and a first step."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
HELP = (sys.executable, "tools/train_net.py", "-h")
TORCH = (sys.executable, "-c", "import torch")
PARTS = ("torch imported", "kdframe imported", "data and networks", "trainer", "first step")


def child_seconds(command: tuple[str, ...]) -> float:
    """CPU seconds of a process and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_step(pair: str, batch: int, device: str) -> dict[str, float]:
    """Seconds from the start of a fresh process to the end of its first step, part by part."""
    done = subprocess.run(
        (sys.executable, "-m", "benchmarks.start", pair, str(batch), device),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


def main() -> None:
    """In the fresh process: takes the step, and prints what each part took as JSON."""
    pair, batch, device = sys.argv[1:]
    clock = time.process_time if device == "cpu" else time.perf_counter
    stamps = [0.0 if device == "cpu" else clock()]  # a process's CPU time begins with it
    import torch

    stamps.append(clock())
    from benchmarks.loops import close, last_steps, prepared

    stamps.append(clock())
    with tempfile.TemporaryDirectory() as folder:
        ready = prepared(pair, int(batch), torch.device(device), Path(folder))
        stamps.append(clock())
        trainer = ready.trainer()
        stamps.append(clock())
        last_steps(trainer, 1)()
        if device == "cuda":
            torch.cuda.synchronize()
        stamps.append(clock())
        close(trainer)
    took = [after - before for before, after in pairwise(stamps)]
    print(json.dumps(dict(zip(PARTS, took, strict=True))))


if __name__ == "__main__":
    main()
