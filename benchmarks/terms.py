"""What each term adds to a training step, in time and in memory.

A step is the teacher's forward pass, the student's, cross entropy and the student's backward pass;
a term's time is its own forward and backward, to the student's outputs and to what it learns, on
outputs that are there already.  Step and terms take turns, so that a machine that slows down slows
them all.  Time is CPU seconds of one thread, or CUDA's own clock on a GPU; share is the median of a
term's times over that of the step's, and its range that of the rounds.  Memory is the most that a
term's tensors take at once beyond its inputs.  Exit code 1: a term is above the limit and isn't one
of those whose definition is dearer.
"""

import argparse
import inspect
import sys
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clock import Work, in_turns, median, memory, ratios
from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import BACKBONES, DISTILLERS, UnknownPart

LIMIT = 0.15  # of a step
DEARER = {  # by their own definition, and why
    "crd": "each image is compared with 16,384 others",
    "ft": "the paraphraser's and the translator's 3x3 convolutions on the last maps",
    "reviewkd": "its 3x3 convolutions, as wide as the student's embedding at every size",
    "semckd": "three convolutions for every pair of stages",
}
CLASSES, ITEMS, SIZE = 100, 50_000, (3, 32, 32)  # CIFAR-100
EXAMPLES = """examples:
  python -m benchmarks.terms
  python -m benchmarks.terms --quick kd dkd
  python -m benchmarks.terms --pair resnet32x4-resnet8x4 --batch 128 --rounds 15
"""


class Row(NamedTuple):
    """A term's cost."""

    name: str
    seconds: float
    share: float
    low: float
    high: float
    memory: int  # bytes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.terms",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="terms; all of them if none")
    p.add_argument("--pair", default="resnet32x4-resnet8x4", metavar="TEACHER-STUDENT")
    p.add_argument("--batch", type=int, metavar="IMAGES", help="64; 8 with --quick")
    p.add_argument(
        "--rounds", type=int, metavar="N", help="measurements of each; 7, 3 with --quick"
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--quick", action="store_true", help="to see it run, not to quote")
    return p


def main() -> int:
    """Prints the table; 1 if a term is too dear."""
    p = parser()
    args = p.parse_args()
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    images = args.batch or (8 if args.quick else 64)
    rounds = args.rounds or (3 if args.quick else 7)
    if images < 2 or rounds < 1 or args.pair.count("-") != 1:
        p.error("--batch takes 2 or more, --rounds 1 or more, --pair TEACHER-STUDENT.")
    try:
        teacher, student = (network(name, device) for name in args.pair.split("-"))
        names = args.names or list(DISTILLERS)
        needs = {name: DISTILLERS.needs(name) for name in names}
    except (UnknownPart, ValueError) as error:
        p.error(str(error))
    given = Given(student, teacher, images, device)
    works = {name: given.term(name) for name in names}
    step, rows = measured(given.step, works, rounds, device)
    clock = "GPU" if device.type == "cuda" else "CPU, one thread"
    print(f"{args.pair}, {images} images of 32x32, {CLASSES} classes, {rounds} rounds on {clock}")
    print(f"a step without terms: {1000 * step:.4g} ms\n")
    print(f"{'term':<20} {'ms':>9} {'share':>7} {'range':>15} {'MiB':>8}  needs")
    for row in sorted(rows, key=lambda row: -row.share):
        spread = f"{row.low:.2%} - {row.high:.2%}"
        print(
            f"{row.name:<20} {1000 * row.seconds:>9.3f} {row.share:>7.2%} {spread:>15} "
            f"{row.memory / 2**20:>8.1f}  {', '.join(needs[row.name])}"
        )
    dear = [row.name for row in rows if row.share > LIMIT and row.name not in DEARER]
    print()
    for name in names:
        if name in DEARER:
            print(f"dearer by definition: {name}, {DEARER[name]}")
    print(f"above {LIMIT:.0%} of a step: {', '.join(dear) or 'none'}")
    return int(bool(dear))


def network(name: str, device: torch.device) -> Backbone:
    """By its name in the registry, laid out as kdframe does."""
    backbone: Backbone = BACKBONES[name](CLASSES)
    backbone.input_size = SIZE
    return backbone.to(device).to(memory_format=torch.channels_last)


class Given:
    """Two networks and a batch, with their outputs for it."""

    def __init__(
        self, student: Backbone, teacher: Backbone, images: int, device: torch.device
    ) -> None:
        self.student, self.teacher = student.train(), teacher.eval().requires_grad_(False)
        self.images, self.device = images, device
        self.labels = torch.arange(ITEMS, device=device) % CLASSES

    def batch(self, rows: int) -> Batch:
        """Random images with the items' labels."""
        items = torch.arange(rows, device=self.device) % self.images  # two views are of one item
        image = torch.randn(rows, *SIZE, device=self.device)
        image = image.contiguous(memory_format=torch.channels_last)
        return Batch(image, self.labels[items], items, 1.0)

    def step(self) -> None:
        """A training step without terms and without the optimizer."""
        batch = self.batch(self.images)
        self.student.zero_grad()
        with torch.no_grad():
            self.teacher(batch.image)
        F.cross_entropy(self.student(batch.image).logits, batch.target).backward()

    def term(self, name: str) -> Work:
        """A term's forward and backward on outputs that are there already."""
        part, needs = DISTILLERS[name], DISTILLERS.needs(name)
        batch = self.batch(2 * self.images if "views" in needs else self.images)
        with torch.no_grad():
            student, teacher = self.student(batch.image), self.teacher(batch.image)
        handed = (teacher, teacher) if "teachers" in needs else teacher
        loss = part
        if inspect.isclass(part):
            loss = part(self.student, self.teacher).to(self.device)
            loss.to(memory_format=torch.channels_last)
            if "labels" in needs:
                loss.set_labels(self.labels)
            if hasattr(loss, "prepare"):  # it isn't part of a step
                loss.prepare(lambda epoch: iter([(handed, batch)]))

        def work() -> None:
            leaves = Output(
                *(t.detach().requires_grad_() for t in (student.logits, student.embedding)),
                [f.detach().requires_grad_() for f in student.features],
            )
            if isinstance(loss, nn.Module):
                loss.zero_grad()
            value: Tensor = loss(leaves, handed, batch)
            value.backward()

        return work


def measured(
    step: Work, works: dict[str, Work], rounds: int, device: torch.device
) -> tuple[float, list[Row]]:
    """The seconds of a step, and every term's cost; they take turns."""
    times = in_turns({"": step, **works}, rounds, device)
    whole = median(times[""])
    rows = []
    for name, work in works.items():
        shares, own = ratios(times[name], times[""]), median(times[name])
        rows.append(Row(name, own, own / whole, min(shares), max(shares), memory(work, device)))
    return whole, rows


if __name__ == "__main__":
    sys.exit(main())
