"""The commands by name, and how each says that it is used.

A command is called in two ways, as ``kdframe train`` and, in a checkout, as ``tools/train_net.py``;
its ``-h`` shows lines that can be typed as they stand there.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

from kdframe.config import ConfigError
from kdframe.values import hint


class Command(NamedTuple):
    """One command; its work is in the module of its name here."""

    script: str  # in tools/
    line: str  # what it does


COMMANDS = {
    "train": Command("train_net", "train a student; its teacher and its baseline first"),
    "study": Command("run_study", "train, resume and compare many runs: methods, seeds, searches"),
    "report": Command("report", "make a page of a run or a study: curves, tables, comparisons"),
    "export": Command("export_model", "take a student out of its run: safetensors, timm, onnx"),
    "analyze": Command("analyze_model", "count a config's networks, and time them"),
    "parts": Command("list_parts", "list every backbone, dataset, distiller, hook and config"),
    "taps": Command("list_taps", "show two networks' stages, and which to compare"),
    "data": Command("visualize_data", "draw a grid of images as they are trained on"),
    "doctor": Command("doctor", "look at the installation, the devices and a config"),
}


def parser(command: str, about: str | None, examples: str) -> argparse.ArgumentParser:
    """A command line that is named as it was called.

    Args:
        command: its name in ``COMMANDS``.
        about: what it does, in a sentence.
        examples: lines as they are typed in a checkout: tools/SCRIPT.py --config-file configs/...
    """
    prog = script = f"tools/{COMMANDS[command].script}.py"
    if Path(sys.argv[0]).name != Path(script).name:
        prog = f"kdframe {command}"
        examples = examples.replace(script, prog).replace(" configs/", " ")
    return Parser(
        prog=prog,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class Parser(argparse.ArgumentParser):
    """argparse's, that answers a wrong command line as a wrong config is answered."""

    def error(self, message: str) -> NoReturn:
        """In one line, with the nearest option; without argparse's usage.

        Raises:
            ConfigError: always.
        """
        wrong = re.findall(r"--[\w-]+", message) if "unrecognized" in message else []
        known = re.findall(r"--[\w-]+", self.format_usage())
        near = [name for word in wrong for name in difflib.get_close_matches(word, known, n=1)]
        raise ConfigError(f"command line: {message}; {self.prog} -h says more.{hint(near)}")
