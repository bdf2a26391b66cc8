"""kdframe on one GPU: eager, compiled and with CUDA graphs; live and cached; fp32 and bf16.

Utilisation is the model's floating-point operations (fvcore's multiply-adds, two each; a backward
pass is two forward passes) over the step's time and the peak of a large matrix product, measured
here in bf16.  Memory is CUDA's own count, above what is there between two steps.  What there is no
time for is left out and named.  Exit code 1: a target is missed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks import peak, rows
from benchmarks.clock import Work, in_turns, median, memory
from benchmarks.loops import CACHE, Bound, close, last_steps, prepared, settle
from benchmarks.noise import noise
from benchmarks.plain import Pictures
from benchmarks.rows import Row, at_least, at_most, row
from kdframe.backbones import Backbone
from kdframe.loading import Loader
from kdframe.trainer import Trainer

PAIRS = ("resnet34-resnet18", "resnet32x4-resnet8x4")
BATCHES = (64, 128, 512)
MODES = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
BUDGET = 450.0  # seconds
ROUNDS, STEPS = 5, 5
HALF = ("SOLVER.PRECISION", "bf16")
WORKERS, IMAGES, PER_BATCH = 8, 16384, 128


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--pairs", nargs="+", default=PAIRS, metavar="TEACHER-STUDENT")
    p.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="IMAGES")
    p.add_argument("--modes", nargs="+", default=tuple(MODES), choices=MODES, metavar="MODE")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured there")
    return p


def main() -> int:
    """Prints the table; 1 if a target is missed, 0 without a GPU."""
    args = parser().parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.sh: this machine has no GPU that torch can use; nothing is measured.")
        return 0
    device, started = torch.device("cuda", torch.cuda.current_device()), time.monotonic()
    found: list[Row] = []
    left_out: list[str] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        (product, work), _ = peak.works(device, torch.bfloat16).values()
        took = in_turns({"product": product}, ROUNDS, device)["product"]
        top = work / median(took)
        found.append(Row("matrix product, bf16", [work / t / 1e12 for t in took], "TF/s"))
        cases = [  # the dearest last: what the time doesn't reach is the least of it
            (mode, pair, batch)
            for mode in args.modes
            for pair in args.pairs
            for batch in args.batches
        ]
        for i, case in enumerate(cases):
            name = ", ".join(map(str, case))
            if time.monotonic() - started > BUDGET:
                left_out.append(name)
                continue
            try:
                found += measured(*case, device=device, folder=Path(folder, str(i)), top=top)
            except RuntimeError as error:  # the others are still worth their time
                failed.append(f"{name}: {' '.join(str(error).split())[:200]}")
            torch.compiler.reset()
            torch.cuda.empty_cache()
            print(f"{time.monotonic() - started:.0f} s  {name}", flush=True)
        if time.monotonic() - started < BUDGET:
            found += loaders(device)
    about = rows.machine(device)
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
    print(rows.as_table(found))
    missed = [r.name for r in found if r.missed]
    print(f"left out for time: {'; '.join(left_out) or 'none'}")
    print(f"failed: {'; '.join(failed) or 'none'}")
    print(f"targets missed: {'; '.join(missed) or 'none'}")
    if args.json:
        rows.write(args.json, {**about, "left out": left_out, "failed": failed}, found)
    return int(bool(missed or failed))


def measured(
    mode: str, pair: str, batch: int, *, device: torch.device, folder: Path, top: float
) -> list[Row]:
    """A pair in one mode at one batch size, in bf16: the loop, its bound, cached, and memory."""
    at = f"{pair}, {batch}, {mode}"
    ready = settle(prepared(pair, batch, device, folder / "live", HALF))
    work = STEPS * peak.flops(ready.teacher, ready.student, batch)
    trainer = compiled(ready.trainer(), mode)
    trainers = [trainer]
    bound = Bound(trainer)
    if MODES[mode]:
        for network in (bound.student, bound.teacher):
            network.compile(mode=MODES[mode])
    works: dict[str, Work] = {
        f"{at}: bound": bound.live(STEPS),
        f"{at}: kdframe": last_steps(trainer, STEPS),
    }
    if CACHE:
        words = (*HALF, "TEACHER.CACHE", "fp32")
        cached = settle(prepared(pair, batch, device, folder / "cached", words)).trainer()
        trainers.append(cached)
        works[f"{at}: student-only bound"] = bound.cached(STEPS)
        works[f"{at}: kdframe, cached"] = last_steps(compiled(cached, mode), STEPS)
    times = in_turns(works, ROUNDS, device)
    scale = 1000 / STEPS
    use = [100 * work / t / top for t in times[f"{at}: kdframe"]]
    target = at_least(25) if pair == PAIRS[0] and batch == max(BATCHES) else None
    step = last_steps(trainer, 1)
    found = [
        row(times, f"{at}: bound", scale=scale),
        row(times, f"{at}: kdframe", f"{at}: bound", at_most(1.05), scale=scale),
        Row(f"{at}: utilisation", use, "%", use, "the matrix product, %", target),
        Row(f"{at}: memory of a step", [memory(step, device) / 2**20], "MiB"),
    ]
    if CACHE:
        under = f"{at}: student-only bound"
        found.append(row(times, under, scale=scale))
        found.append(row(times, f"{at}: kdframe, cached", under, at_most(1.05), scale=scale))
    close(*trainers)
    return found


def loaders(device: torch.device) -> list[Row]:
    """An epoch's batches on the device: resident, and by workers with Pillow."""
    dataset = noise("train", train=IMAGES)
    loader = Loader(dataset, torch.arange(IMAGES), device=device, augment="crop_flip")
    workers = DataLoader(
        Pictures(dataset),
        PER_BATCH,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=True,
        persistent_workers=True,
    )
    slow, fast = f"data, {WORKERS} workers with Pillow", "data, resident"
    works: dict[str, Work] = {
        slow: lambda: [image.to(device, non_blocking=True) for image, _ in workers],
        fast: lambda: [None for _ in loader.train(0, PER_BATCH)],
    }
    times = in_turns(works, ROUNDS, device)
    scale = 1e6 / IMAGES
    return [
        row(times, slow, scale=scale, unit="us an image"),
        row(times, fast, slow, at_least(3), scale=scale, unit="us an image", gain=True),
    ]


def compiled(trainer: Trainer, mode: str) -> Trainer:
    """The trainer with the networks that it asks compiled in place."""
    if MODES[mode]:
        for network in (trainer.model.student, *asked(trainer)):
            network.compile(mode=MODES[mode])
    return trainer


def asked(trainer: Trainer) -> list[Backbone]:
    """The teachers, or their folded copies."""
    return list(getattr(trainer.model, "_asked", trainer.model.teachers))


if __name__ == "__main__":
    sys.exit(main())
