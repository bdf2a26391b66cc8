"""Trains a student; its teacher and its baseline first, where the config names their recipes."""

import argparse
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from kdframe import lock, run_folder
from kdframe.commands import usage
from kdframe.config import read
from kdframe.signals import Signals, stop_if

EXAMPLES = """examples:
  tools/train_net.py --config-file configs/kd_feature.yaml
  tools/train_net.py --config-file configs/kd_feature.yaml --resume
  tools/train_net.py --config-file configs/kd_feature.yaml SEED 1 LOSS.feature.WEIGHT=2
  tools/train_net.py --config-file configs/kd_feature.yaml LOSS.feature null LOSS.kd '{}'
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("train", __doc__, EXAMPLES)
    p.add_argument("--config-file", required=True, metavar="FILE", help="what to train")
    how = p.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with OUTPUT_DIR or the latest")
    how.add_argument("--eval-only", action="store_true", help="read the test split, train nothing")
    how.add_argument("--dry-run", action="store_true", help="all up to step 0; tells the time")
    how.add_argument("--print-config", action="store_true", help="print the whole config")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    p.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="also KEY=VALUE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what needs no network first; torch is imported after that."""
    args = parser().parse_intermixed_args(argv)
    draft = read(args.config_file, args.overrides)
    again = args.resume or args.eval_only
    folder = run_folder.choose(draft.path.stem, draft.tree.OUTPUT_DIR, draft.tree.SEED, again)
    first = os.environ.get("RANK", "0") == "0"
    trains = not (args.eval_only or args.dry_run or args.print_config)
    if first and trains and not args.resume:
        run_folder.refuse_occupied(folder)
    if first and trains:
        lock.refuse_busy(folder)
    with Signals() as signals:  # those that come during the imports are answered after them
        begun = time.perf_counter()
        if "WORLD_SIZE" in os.environ:  # DistributedDataParallel finds no unused parameter unusual
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        config = draft.load()
        if args.print_config:
            print(config.dump(), end="")
            return

        from kdframe import dry_run, parallel, run
        from kdframe.together import announce, together

        stop_if(signals.asked())
        imports = time.perf_counter() - begun
        talk(first)
        if draft.path != Path(args.config_file):
            logging.getLogger("kdframe").info(
                "%s is kdframe's own: %s", args.config_file, draft.path
            )
        for warning in config.warnings:
            logging.getLogger("kdframe").warning("warning: %s", warning)
        with together():
            run.start(config)
            announce()
            folder = parallel.from_first(folder)
            if args.dry_run:
                dry_run.dry_run(config, signals.asked)
            elif args.eval_only:
                run.eval_only(config, folder, signals.asked)
            else:
                run.train(
                    config,
                    folder,
                    resume=args.resume,
                    asked=signals.asked,
                    latest=not config.tree.OUTPUT_DIR,
                    imports=imports,
                )
    parallel.finish()


def talk(first: bool) -> None:
    """The console: what kdframe logs, printed by the first process only."""

    class Printed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), flush=True)  # looks up sys.stdout: a bar may stand there

    logger = logging.getLogger("kdframe")
    logger.setLevel(logging.INFO if first else logging.ERROR)
    logger.addHandler(Printed())
