"""Two methods of one teacher, live, and as a study has them: the teacher asked once, and kept.

  python -m benchmarks.study

Whole runs (``kdframe.run.train``) of kd and dkd, resnet56 -> resnet20, on noise of CIFAR's size,
with the settings that ``TEACHER_CACHE: fp32`` gives a study's rows: live, with an empty cache that
the first run fills, and with a full one.  CPU seconds of this process from a run's first step to
the end of its last epoch, ways in turns.  Exits 1 if a target is missed.
"""

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import noise
from benchmarks.clock import median
from kdframe import config, run
from kdframe.hooks import Hook

TARGETS = {"cold": 0.75, "warm": 0.60}  # of two live runs
METHODS = ("kd", "dkd")


class Clock(Hook):
    """CPU seconds of a training."""

    def before_train(self, trainer: Any) -> None:
        self.began = time.process_time()

    def after_train(self, trainer: Any) -> None:
        self.seconds = time.process_time() - self.began


def main() -> int:
    """Measures in turns, prints median and range of each ratio, and judges."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--pair", default="resnet56-resnet20", metavar="TEACHER-STUDENT")
    p.add_argument("--images", type=int, default=1280, help="of an epoch")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    args = p.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("kdframe").setLevel(logging.ERROR)
    ratios: dict[str, list[float]] = {name: [] for name in TARGETS}
    for turn in range(args.rounds):
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
            write(args.pair, args.images, args.epochs)
            seconds = {way: [cost(way, method) for method in METHODS] for way in ("live", *TARGETS)}
        for way in TARGETS:
            ratios[way].append(sum(seconds[way]) / sum(seconds["live"]))
        said = ", ".join(f"{way} {a:.2f} + {b:.2f} s" for way, (a, b) in seconds.items())
        print(f"round {turn + 1}: {said}", flush=True)
    missed = False
    for way, target in TARGETS.items():
        found = ratios[way]
        missed |= median(found) > target
        print(
            f"two methods, {way} cache / two live runs  {median(found):.3f}  "
            f"({min(found):.3f} to {max(found):.3f}, n {len(found)})  target <= {target:.2f}"
        )
    return int(missed)


def write(pair: str, images: int, epochs: int) -> None:
    """The config of all runs, into the working folder."""
    teacher, student = pair.split("-")
    settings = {
        "DEVICE": "cpu",
        "STUDENT": {"NAME": student},
        "TEACHER": {"NAME": teacher, "WEIGHTS": "random"},
        "DATASET": {
            "NAME": noise.noise.__name__,
            "VAL": 0,
            "AUGMENT": "crop_flip",
            "TRAIN": images,
            "TEST": 64,
        },
        "LOSS": {"cross_entropy": {"WEIGHT": 0.1}},
        "SOLVER": {"EPOCHS": epochs, "BATCH_SIZE": 64, "LR": 0.01},
        "HOOKS": {"progress": None, "tensorboard": None, "curves": None},
    }
    Path("study.yaml").write_text(yaml.safe_dump(settings))


def cost(way: str, method: str) -> float:
    """CPU seconds of one training."""
    cache = "off" if way == "live" else "fp32"
    words = [f"LOSS.{method}={{}}", f"TEACHER.CACHE={cache}"]
    clock = Clock()
    run.train(config.load("study.yaml", words), Path(way, method), hooks=[clock])
    return clock.seconds


if __name__ == "__main__":
    sys.exit(main())
