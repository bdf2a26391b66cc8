"""kdframe's whole loop against its lower bound and against a loop written by hand.

What is compared takes turns in one process, so that a machine that slows down slows all of it: CPU
seconds of one thread, or CUDA's events on a GPU.  A ratio is the median of the rounds' ratios, and
its range is theirs.  Exit code 1: a target is missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import rows, sections
from kdframe.registry import BACKBONES, UnknownPart

PAIR = "resnet56-resnet20"
EXAMPLES = """examples:
  python -m benchmarks.run
  python -m benchmarks.run --quick --json run.json
  python -m benchmarks.run --pair resnet32x4-resnet8x4
  python -m benchmarks.run --only loops taps
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--pair", default=PAIR, metavar="TEACHER-STUDENT", help=f"{PAIR} if not said")
    p.add_argument("--batch", type=int, metavar="IMAGES", help="64; 8 with --quick")
    p.add_argument("--rounds", type=int, metavar="N", help="measurements of each; 7, 2 with quick")
    p.add_argument(
        "--only",
        nargs="+",
        choices=sections.ALL,
        metavar="SECTION",
        help="some of it: " + ", ".join(sections.ALL),
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--quick", action="store_true", help="to see it run, not to quote")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured there")
    return p


def main() -> int:
    """Prints the table; 1 if a target is missed."""
    p = parser()
    args = p.parse_args()
    names = args.pair.split("-")
    batch, rounds = args.batch or (8 if args.quick else 64), args.rounds or (2 if args.quick else 7)
    if len(names) != 2 or batch < 8 or rounds < 1:
        p.error("--pair TEACHER-STUDENT, --batch takes 8 or more, --rounds 1 or more.")
    try:
        for name in names:
            BACKBONES[name]
    except UnknownPart as error:
        p.error(str(error))
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        asked = sections.Asked(args.pair, batch, rounds, device, Path(folder), args.quick)
        found = [r for name in args.only or sections.ALL for r in sections.ALL[name](asked)]
        asked.close()
    about = {"pair": args.pair, "batch": batch, "rounds": rounds, **rows.machine(device)}
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n")
    print(rows.as_table(found))
    missed = [row.name for row in found if row.missed]
    print(f"targets missed: {'; '.join(missed) or 'none'}")
    if args.json:
        rows.write(args.json, about, found)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
