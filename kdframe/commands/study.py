"""Trains what a study's file names, and prints one table: every row over its seeds."""

import argparse
from collections.abc import Sequence

from kdframe.commands import usage
from kdframe.config import ConfigError
from kdframe.study.written import read_study

EXAMPLES = """examples:
  tools/run_study.py --study configs/studies/quick.yaml
  tools/run_study.py --study configs/studies/quick.yaml --dry-run
  tools/run_study.py --study configs/studies/quick.yaml --rows student,kd --seeds 0,1
  tools/run_study.py --study configs/studies/quick.yaml --report-only
  tools/run_study.py --study FILE --worker --storage sqlite:///study.db
  tools/run_study.py --study FILE --worker --storage postgresql://user@host/database
  tools/run_study.py --study FILE --search

The same command goes on with what was broken off: finished runs are kept.  Start as many workers
as you like; on a machine with several GPUs one for each, with CUDA_VISIBLE_DEVICES.  They need not
share a folder: figures travel through the storage; where they don't, a run is begun anew and not
resumed.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("study", __doc__, EXAMPLES)
    p.add_argument("--study", required=True, metavar="FILE", help="rows, seeds, comparisons")
    p.add_argument("--rows", default="", metavar="A,B", help="only these rows, and what they need")
    p.add_argument("--seeds", default="", metavar="0,1", help="only these seeds")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--search", action="store_true", help="tune what the file's SEARCH says")
    how.add_argument("--dry-run", action="store_true", help="print the runs, and train none")
    how.add_argument("--report-only", action="store_true", help="the table of what is done")
    p.add_argument("--worker", action="store_true", help="share the runs with other workers")
    p.add_argument("--storage", default="", metavar="URL", help="where workers share the runs")
    p.add_argument("--retry-failed", action="store_true", help="try runs that failed again")
    p.add_argument(
        "--heartbeat", type=int, default=60, metavar="SECONDS", help="between a worker's signs"
    )
    p.add_argument(
        "--grace", type=int, metavar="SECONDS", help="of silence; then a run is another worker's"
    )
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what is wrong with the files before torch is imported."""
    args = parser().parse_args(argv)
    rows, seeds = split(args.rows), numbers(args.seeds)
    if args.worker and not args.storage:
        raise ConfigError("command line: --worker: it takes its runs from a --storage.")
    refuse_idle(args)
    grace = 3 * args.heartbeat if args.grace is None else args.grace
    if args.heartbeat < 1 or grace <= args.heartbeat:
        raise ConfigError("command line: --heartbeat is from 1, and --grace is above it.")
    study = read_study(args.study)
    study.refuse_unknown(rows, seeds)
    if args.search and study.search is None:
        raise study.error("SEARCH", "there is none, and --search tunes what it names.")

    from kdframe.commands.train import talk
    from kdframe.study import tasks

    talk(first=True)
    work = tasks.Work(
        study=study,
        rows=rows,
        seeds=seeds,
        storage=args.storage,
        heartbeat=args.heartbeat,
        grace=grace,
        retry=args.retry_failed,
        debug=args.debug,
    )
    if args.dry_run:
        work.dry_run()
    elif args.report_only:
        work.report()
    elif args.search:
        work.search()
    else:
        work.train()


def refuse_idle(args: argparse.Namespace) -> None:
    """An option that would say nothing is an error.

    Raises:
        ConfigError: naming both options.
    """
    how = [name for name in ("search", "dry_run", "report_only") if getattr(args, name)]
    goes_with = {"rows": ["dry_run"], "seeds": ["dry_run"], "retry_failed": []}
    for name, those in goes_with.items():
        if getattr(args, name) and how and how[0] not in those:
            option, other = (f"--{word.replace('_', '-')}" for word in (name, how[0]))
            raise ConfigError(f"command line: {option} says nothing with {other}.")


def split(words: str) -> list[str]:
    """``a,b`` as a list."""
    return [word.strip() for word in words.split(",") if word.strip()]


def numbers(words: str) -> list[int]:
    """``0,1`` as a list."""
    try:
        return [int(word) for word in split(words)]
    except ValueError:
        raise ConfigError(
            f"command line: --seeds takes whole numbers with commas, not {words!r}."
        ) from None
