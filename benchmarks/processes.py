"""What an image costs two processes, beside one: ``python -m benchmarks.processes``.

The same config (resnet56 -> resnet20, BATCH_SIZE 128) is trained on noise of CIFAR's size by one
process and by two under torchrun, 64 images each, in turns.  CPU seconds of all processes' steps
from the second epoch on, an image.  Exits 1 if the target is missed.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import noise
from benchmarks.clock import median
from kdframe import config, parallel, run
from kdframe.hooks import Hook

ROOT = Path(__file__).parents[1]
TARGET = 1.08  # of one process's CPU seconds an image
BATCH = 128


def main() -> int:
    """Measures in turns, prints median and range of the ratio, and judges."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pair", default="resnet56-resnet20", metavar="TEACHER-STUDENT")
    p.add_argument("--steps", type=int, default=10, help="of an epoch (%(default)s)")
    p.add_argument("--epochs", type=int, default=3, help="the first isn't counted (%(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    p.add_argument("--of", type=Path, help="one training, of the config in this folder")
    args = p.parse_args()
    if args.of is not None:
        train(args.of)
        return 0
    found = []
    for turn in range(args.rounds):
        costs = {}
        for count in (1, 2)[:: 1 if turn % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                costs[count] = cost(Path(folder), count, args.pair, args.steps, args.epochs)
        found.append(costs[2] / costs[1])
        one, two = (1e6 * costs[count] for count in (1, 2))
        print(f"round {turn + 1}: one {one:.0f}, two {two:.0f} us of CPU an image", flush=True)
    print(
        f"two processes / one  {median(found):.3f}  ({min(found):.3f} to {max(found):.3f}, "
        f"n {len(found)})  target <= {TARGET:.2f}"
    )
    return int(median(found) > TARGET)


def cost(folder: Path, count: int, pair: str, steps: int, epochs: int) -> float:
    """CPU seconds an image of a training by ``count`` processes."""
    teacher, student = pair.split("-")
    dataset = {"NAME": noise.noise.__name__, "VAL": 0, "AUGMENT": "crop_flip", "TEST": BATCH}
    settings = {
        "DEVICE": "cpu",
        "STUDENT": {"NAME": student},
        "TEACHER": {"NAME": teacher, "WEIGHTS": "random"},
        "DATASET": {**dataset, "TRAIN": steps * BATCH},
        "LOSS": {"cross_entropy": {"WEIGHT": 0.1}, "kd": {"WEIGHT": 0.9}},
        "SOLVER": {"EPOCHS": epochs, "BATCH_SIZE": BATCH, "LR": 0.01},
        "HOOKS": {"progress": None, "tensorboard": None, "curves": None},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    torchrun = ("-m", "torch.distributed.run", f"--nproc-per-node={count}") if count > 1 else ()
    subprocess.run(
        (sys.executable, *torchrun, "-m", "benchmarks.processes", "--of", str(folder)),
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    said = [json.loads(path.read_text()) for path in folder.glob("seconds-*.json")]
    return float(sum(said)) / (steps * BATCH * (epochs - 1))


class Clock(Hook):
    """This process's CPU seconds from the end of the first epoch to that of the last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.began = folder, 0.0

    def after_epoch(self, trainer: Any) -> None:
        self.began = self.began or time.process_time()

    def after_train(self, trainer: Any) -> None:
        took = time.process_time() - self.began
        (self.folder / f"seconds-{parallel.rank()}.json").write_text(json.dumps(took))


def train(folder: Path) -> None:
    """In a process of its own, or in one of torchrun's."""
    torch.set_num_threads(1)
    logging.getLogger("kdframe").setLevel(logging.ERROR)
    run.train(config.load(folder / "config.yaml"), folder / "run", hooks=[Clock(folder)])
    parallel.finish()


if __name__ == "__main__":
    sys.exit(main())
