"""Looks at the installation, the machine and a config, and says what would stop a run there."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kdframe.commands import usage
from kdframe.config import ConfigError, load

EXAMPLES = """examples:
  tools/doctor.py
  tools/doctor.py --config-file configs/kd_feature.yaml
  tools/doctor.py --config-file configs/kd_feature.yaml DEVICE cuda SOLVER.PRECISION bf16

Each line is ok, a warning or an error, with what to do about it.  Three steps of the config are
tried to tell its time, memory and disk; nothing is left behind.  The exit code is 2 if an error
would stop the run, and 0 otherwise.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("doctor", __doc__, EXAMPLES)
    p.add_argument("--config-file", metavar="FILE", help="look at this run, too")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    p.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="also KEY=VALUE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Prints each finding as it is made.

    Raises:
        ConfigError: how many of them would stop a run.
    """
    args = parser().parse_intermixed_args(argv)
    if args.overrides and not args.config_file:
        raise ConfigError(f"command line: {args.overrides[0]} is a setting of no --config-file.")

    from kdframe import doctor, prognosis

    def config() -> Iterator[doctor.Finding]:
        try:
            found = load(args.config_file, args.overrides)
        except ConfigError as error:
            yield doctor.Finding("error", "config", str(error))
            return
        yield from prognosis.prognosis(found)

    levels = told(doctor.machine())
    if args.config_file:
        print()
        levels += told(config())
    errors, warnings = levels.count("error"), levels.count("warning")
    if errors:
        raise ConfigError(f"{errors} of {len(levels)} checks would stop a run.")
    print(f"\n{len(levels)} checks: no error, {warnings} warning{'s' * (warnings != 1)}")


def told(findings: Iterable[Any]) -> list[str]:
    """Prints each, and returns their levels."""
    levels = []
    for finding in findings:
        print(finding, flush=True)
        levels.append(finding.level)
    return levels
