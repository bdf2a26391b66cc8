"""Makes a page of a run or a study: curves, comparisons, and what student and teacher share."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdframe.commands import usage
from kdframe.config import ConfigError
from kdframe.reports import runs

EXAMPLES = """examples:
  tools/report.py runs/kd_feature/latest
  tools/report.py runs/studies/quick
  tools/report.py runs/studies/quick --images 2000 --out pages/quick
  tools/report.py runs/kd_feature/latest --no-analysis
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("report", __doc__, EXAMPLES)
    p.add_argument("folder", type=Path, metavar="OUTPUT_DIR|STUDY_DIR", help="what to show")
    p.add_argument("--out", type=Path, metavar="DIR", help="of report.html; default: that folder")
    p.add_argument(
        "--images", type=int, default=0, metavar="N", help="of the test split; default: all"
    )
    p.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (the default), cpu, cuda or mps"
    )
    p.add_argument(
        "--no-analysis", action="store_true", help="ask no network: show what is in the files"
    )
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers a folder without a run before torch is imported."""
    args = parser().parse_args(argv)

    if args.images < 0:
        raise ConfigError(f"--images takes a number from 1, or 0 for all, not {args.images}.")
    study = runs.read(args.folder)

    from kdframe import parallel
    from kdframe.analysis import analyse_all
    from kdframe.reports import files, page

    out = args.out or args.folder
    try:
        device = None if args.no_analysis else parallel.start(args.device)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"--device: {str(error).splitlines()[0]}") from error
    for line in analyse_all(study, device, args.images):
        print(line, flush=True)
    references = runs.references(study)
    path = page.write(study, references, out)
    print(f"{path}  {path.stat().st_size / 1000:,.0f} kB")
    pictures = files.write(study, references, out / "report")
    print(f"{out / 'report'}  {len(pictures)} files")
