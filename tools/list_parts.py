"""Prints every part: its file, what it is, its options and their defaults."""

import argparse
import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from kdframe import exit_codes
from kdframe.config import ConfigError
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS, Registry, UnknownPart
from kdframe.values import hint, shown

KINDS = {registry.kind: registry for registry in (BACKBONES, DATASETS, DISTILLERS, HOOKS)}
EXAMPLES = """examples:
  tools/list_parts.py
  tools/list_parts.py distillers
  tools/list_parts.py backbones resnet18
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(KINDS))
    p.add_argument("name", nargs="?", metavar="NAME", help="one part, of a library's as well")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main() -> None:
    """Answers a wrong KIND before torch is imported."""
    args = parser().parse_args()
    if args.kind not in (None, *KINDS):
        near = hint(difflib.get_close_matches(args.kind, KINDS, n=1))
        raise ConfigError(f"KIND takes one of {', '.join(KINDS)}, not {shown(args.kind)}.{near}")
    registries = [KINDS[args.kind]] if args.kind else list(KINDS.values())
    for registry in registries:
        print("\n".join(listing(registry, args.name)))


def listing(registry: Registry, name: str | None) -> Iterator[str]:
    """The lines of one kind, or of one part of it.

    Raises:
        ConfigError: the kind has no such part.
    """
    if name is not None:
        try:
            yield from about(registry, name)
        except (UnknownPart, ImportError) as error:
            raise ConfigError(str(error)) from error
        return
    yield f"{registry.kind}\n"
    for part in registry:
        try:
            yield from about(registry, part)
        except ImportError as error:  # a part that needs more than kdframe installs
            yield f"  {part:<20} {error}\n"
    more = len(registry.names()) - len(registry)
    if more:
        yield f"  and {more} more of a library; ask for one by NAME\n"


def about(registry: Registry, name: str) -> Iterator[str]:
    """The lines of one part; its options are written as the config's keys."""
    part = getattr(registry[name], "func", registry[name])
    file = Path(inspect.getfile(part))
    if file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    yield f"  {name:<20} {file}"
    yield f"  {'':<20} {(inspect.getdoc(part) or 'no docstring').splitlines()[0]}"
    options = registry.options(name)
    width = max(map(len, options), default=0)
    for option, default in options.items():
        value = list(default) if isinstance(default, tuple) else default
        yield f"  {'':<20} {option.upper():<{width}} {shown(value)}"
    yield ""


if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
