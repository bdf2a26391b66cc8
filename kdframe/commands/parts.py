"""Prints every part: its file, what it is, its options and their defaults; or all of one part.

KIND configs prints the configs that come with kdframe; with its NAME, one of them as it is written.
"""

import argparse
import difflib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdframe import shipped
from kdframe.commands import usage
from kdframe.config import ConfigError
from kdframe.layers import text_of
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS, Part, Registry, UnknownPart
from kdframe.reports import methods
from kdframe.values import hint, shown

KINDS = {registry.kind: registry for registry in (BACKBONES, DATASETS, DISTILLERS, HOOKS)}
CONFIGS = "configs"
EXAMPLES = """examples:
  tools/list_parts.py
  tools/list_parts.py distillers
  tools/list_parts.py distillers dkd
  tools/list_parts.py backbones resnet18
  tools/list_parts.py distillers --markdown > docs/methods.md
  tools/list_parts.py configs
  tools/list_parts.py configs cifar100/resnet56_resnet20/dkd.yaml
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("parts", __doc__, EXAMPLES)
    p.add_argument("kind", nargs="?", metavar="KIND", help=", ".join((*KINDS, CONFIGS)))
    p.add_argument("name", nargs="?", metavar="NAME", help="all of one part, of a library's too")
    p.add_argument("--markdown", action="store_true", help="the distillers as a page")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers a wrong KIND before torch is imported."""
    args = parser().parse_args(argv)
    kinds = (*KINDS, CONFIGS)
    if args.kind not in (None, *kinds):
        near = hint(difflib.get_close_matches(args.kind, kinds, n=1))
        raise ConfigError(f"KIND takes one of {', '.join(kinds)}, not {shown(args.kind)}.{near}")
    if args.markdown and (args.kind, args.name) != ("distillers", None):
        raise ConfigError("--markdown takes the KIND distillers, and no NAME.")
    if args.markdown:
        print(methods.page(), end="")
    elif args.kind == CONFIGS:
        print("\n".join(written(args.name) if args.name else configs()))
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


def configs() -> Iterator[str]:
    """A line for each config that is shipped: its name and what it says at its head."""
    names = shipped.names()
    width = max(map(len, names), default=0)
    yield f"configs  {shipped.folder()}\n"
    for name in names:
        yield f"  {name:<{width}}  {head(shipped.folder() / name)}"


def head(path: Path) -> str:
    """The first sentence of a config's comment, or as much of it as a line holds."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    text = "\n".join(line[2:] for line in lines if "tools/" not in line)
    return textwrap.shorten(re.split(r"(?<=\.)\s", text)[0], 110)


def written(name: str) -> Iterator[str]:
    """A config's file, with where it is as a comment.

    Raises:
        ConfigError: there is none of that name.
    """
    path = shipped.find(name)
    yield f"# {path}"
    yield text_of(path, "").rstrip()


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
