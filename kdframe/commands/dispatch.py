"""``kdframe COMMAND ...``: the command that the first word names, and nothing else, is imported."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from kdframe import __version__, exit_codes
from kdframe.commands.usage import COMMANDS
from kdframe.config import ConfigError
from kdframe.values import hint, shown

HELP = """usage: kdframe COMMAND ...

Knowledge distillation for image classification: verified losses, honest runs.

commands:
{commands}

  COMMAND -h says more of one; --version says kdframe's own.

examples:
  kdframe train --config-file kd_feature.yaml
  kdframe train --config-file kd_feature.yaml --resume
  kdframe parts configs
  kdframe parts distillers dkd
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command that ``argv``, or the command line, names."""
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_codes.answered(lambda: call(words), debug="--debug" in words)


def call(words: Sequence[str]) -> None:
    """Runs a command.

    Raises:
        ConfigError: the first word is none.
    """
    name, *rest = words or [""]
    if name in ("-h", "--help"):
        print(HELP.format(commands=listing()), end="")
    elif name in ("-V", "--version"):
        print(f"kdframe {__version__}")
    elif name in COMMANDS:
        importlib.import_module(f"kdframe.commands.{name}").main(rest)
    elif name:
        near = hint(nearest(name)) or " kdframe -h lists its commands."
        raise ConfigError(f"command line: there is no command {shown(name)}.{near}")
    else:
        raise ConfigError(f"command line: a command comes first, one of {', '.join(COMMANDS)}.")


def listing() -> str:
    """A line for each command."""
    return "\n".join(f"  {name:<9}{command.line}" for name, command in COMMANDS.items())


def nearest(word: str) -> list[str]:
    """The command that a word may have meant, by its own name or its script's."""
    names = {name: name for name in COMMANDS}
    names |= {command.script: name for name, command in COMMANDS.items()}
    return [names[near] for near in difflib.get_close_matches(word, names, n=1)]
