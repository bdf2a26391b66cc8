"""How a command says that it is used, whether ``kdframe`` or its script in tools/ calls it."""

import importlib
import re
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from kdframe.commands.usage import COMMANDS, Parser, parser
from kdframe.config import ConfigError
from kdframe.shipped import names

ROOT = Path(__file__).parents[2]
EXAMPLES = """examples:
  tools/train_net.py --config-file configs/kd_feature.yaml --resume
"""
CALLERS = ("kdframe", "tools")


def of(command: str, caller: str, monkeypatch) -> ArgumentParser:
    """A command's parser, as ``caller`` gets it."""
    script = f"/somewhere/tools/{COMMANDS[command].script}.py"
    monkeypatch.setattr(sys, "argv", [script if caller == "tools" else "/bin/kdframe"])
    made: ArgumentParser = importlib.import_module(f"kdframe.commands.{command}").parser()
    return made


@pytest.mark.parametrize("name", ["kdframe", "__main__.py", "pytest", "train_net"])
def test_lines_are_kdframes_but_for_the_script(name, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"/bin/{name}"])
    said = parser("train", "Trains.", EXAMPLES).format_help()
    assert said.startswith("usage: kdframe train ")
    assert said.endswith("\n  kdframe train --config-file kd_feature.yaml --resume\n")


def test_lines_of_a_script_are_as_they_are_typed_in_a_checkout(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/train_net.py"])
    said = parser("train", "Trains.", EXAMPLES).format_help()
    assert said.startswith("usage: tools/train_net.py ")
    assert said.endswith(EXAMPLES)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_usage_and_examples_are_its_callers(command, caller, monkeypatch) -> None:
    prog = f"kdframe {command}" if caller == "kdframe" else f"tools/{COMMANDS[command].script}.py"
    said = of(command, caller, monkeypatch).format_help()
    assert said.startswith(f"usage: {prog} ")
    examples = said.partition("\nexamples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples and all(line.startswith(f"  {prog}") for line in examples)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_a_command_line_with_a_config_that_is_there(
    command, caller, monkeypatch
) -> None:
    made = of(command, caller, monkeypatch)
    assert isinstance(made, Parser)
    lines = re.findall(rf"^  {made.prog}(.*)$", made.epilog or "", re.MULTILINE)
    for line in lines:
        words = shlex.split(line.partition(" >")[0])
        made.parse_intermixed_args(words)
        for word in (word for word in words if word.endswith(".yaml")):
            assert word in names() or (caller == "tools" and (ROOT / word).exists())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([], "the following arguments are required: --config-file; kdframe train -h says more."),
        (
            ["--config-file", "x.yaml", "--resme"],
            "unrecognized arguments: --resme; kdframe train -h says more. Did you mean --resume?",
        ),
        (
            ["--config-file", "x.yaml", "--resume", "--dry-run"],
            "argument --dry-run: not allowed with argument --resume; kdframe train -h says more.",
        ),
    ],
)
def test_a_wrong_option_is_one_line(words, answer, monkeypatch) -> None:
    with pytest.raises(ConfigError) as caught:
        of("train", "kdframe", monkeypatch).parse_intermixed_args(words)
    assert str(caught.value) == f"command line: {answer}"
