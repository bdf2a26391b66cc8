"""Prints every part: its file, what it is, its options and their defaults; or all of one part."""

import argparse
import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from kdframe import exit_codes
from kdframe.config import ConfigError
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS, Part, Registry, UnknownPart
from kdframe.reports import methods
from kdframe.values import hint, shown

KINDS = {registry.kind: registry for registry in (BACKBONES, DATASETS, DISTILLERS, HOOKS)}
EXAMPLES = """examples:
  tools/list_parts.py
  tools/list_parts.py distillers
  tools/list_parts.py distillers dkd
  tools/list_parts.py backbones resnet18
  tools/list_parts.py distillers --markdown > docs/methods.md
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(KINDS))
    p.add_argument("name", nargs="?", metavar="NAME", help="all of one part, of a library's too")
    p.add_argument("--markdown", action="store_true", help="the distillers as a page")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main() -> None:
    """Answers a wrong KIND before torch is imported."""
    args = parser().parse_args()
    if args.kind not in (None, *KINDS):
        near = hint(difflib.get_close_matches(args.kind, KINDS, n=1))
        raise ConfigError(f"KIND takes one of {', '.join(KINDS)}, not {shown(args.kind)}.{near}")
    if args.markdown and (args.kind, args.name) != ("distillers", None):
        raise ConfigError("--markdown takes the KIND distillers, and no NAME.")
    if args.markdown:
        print(methods.page(), end="")
    elif args.name:
        print("\n".join(whole(KINDS[args.kind], args.name)))
    else:
        registries = [KINDS[args.kind]] if args.kind else list(KINDS.values())
        for registry in registries:
            print("\n".join(listing(registry)))


def listing(registry: Registry) -> Iterator[str]:
    """A block for each part of one kind; its options are written as the config's keys."""
    yield f"{registry.kind}\n"
    for name in registry:
        try:
            part = registry[name]
        except ImportError as error:  # a part that needs more than kdframe installs
            yield f"  {name:<20} {error}\n"
            continue
        yield f"  {name:<20} {file_of(part)}"
        yield f"  {'':<20} {docstring(part).splitlines()[0]}"
        yield from (f"  {'':<20} {option}" for option in options(registry, name))
        yield ""
    more = len(registry.names()) - len(registry)
    if more:
        yield f"  and {more} more of a library; ask for one by NAME\n"


def whole(registry: Registry, name: str) -> Iterator[str]:
    """All that a part's file says of it: source, docstring, options, and what a term needs.

    Raises:
        ConfigError: the kind has no such part.
    """
    try:
        part = registry[name]
    except (UnknownPart, ImportError) as error:
        raise ConfigError(str(error)) from error
    yield f"{name}  {file_of(part)}"
    yield f"{methods.source(part)}\n"
    yield docstring(part)
    if registry.options(name):
        yield "\nOptions:"
    yield from (f"    {option}" for option in options(registry, name))
    needs = methods.needs(name) if registry is DISTILLERS else {}
    if needs:
        yield "\nNeeds:"
    yield from (f"    {word}: {sentence}" for word, sentence in needs.items())


def file_of(part: Part) -> Path:
    """Its path, from here where it lies below."""
    file = Path(inspect.getfile(getattr(part, "func", part)))
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def docstring(part: Part) -> str:
    """In full, without the indentation."""
    return inspect.getdoc(getattr(part, "func", part)) or "no docstring"


def options(registry: Registry, name: str) -> Iterator[str]:
    """A line for each, with its default."""
    defaults = registry.options(name)
    width = max(map(len, defaults), default=0)
    for option, default in defaults.items():
        value = list(default) if isinstance(default, tuple) else default
        yield f"{option.upper():<{width}} {shown(value)}"


if __name__ == "__main__":
    sys.exit(exit_codes.answered(main, debug="--debug" in sys.argv))
