"""``kdframe COMMAND ...``: which command is called, and how a wrong one is answered."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe import __version__
from kdframe.commands.dispatch import main
from kdframe.commands.usage import COMMANDS

ROOT = Path(__file__).parents[2]
KDFRAME = [sys.executable, "-m", "kdframe"]


def test_help_has_a_line_for_every_command(capsys) -> None:
    assert main(["-h"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: kdframe COMMAND ...\n")
    block = said.partition("commands:\n")[2].partition("\n\n")[0]
    rows = [tuple(line.split(maxsplit=1)) for line in block.splitlines()]
    assert rows == [(name, command.line) for name, command in COMMANDS.items()]
    assert max(map(len, said.splitlines())) <= 80


def test_every_example_in_the_help_is_a_command(capsys) -> None:
    main(["-h"])
    examples = re.findall(r"^  kdframe (\w+) .*-", capsys.readouterr().out, re.MULTILINE)
    assert examples and set(examples) <= COMMANDS.keys()


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_told(word, capsys) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"kdframe {__version__}\n"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["trian"], "there is no command 'trian'. Did you mean train?"),
        (["train_net"], "there is no command 'train_net'. Did you mean train?"),
        (["visualise_data"], "there is no command 'visualise_data'. Did you mean data?"),
        (["x"], "there is no command 'x'. kdframe -h lists its commands."),
        (["-x", "train"], "there is no command '-x'. kdframe -h lists its commands."),
        ([], f"a command comes first, one of {', '.join(COMMANDS)}."),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_line_and_exit_code_2(words, answer, capsys) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"error: command line: {answer}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_rest_of_the_words_go_to_the_command(name, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(importlib.import_module(f"kdframe.commands.{name}"), "main", given.append)
    assert main([name, "--resume", "SEED", "1"]) == 0
    assert given == [["--resume", "SEED", "1"]]


def test_a_traceback_only_for_debug(capsys) -> None:
    assert main(["parts", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["parts", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_as_a_module_it_ends_with_the_commands_exit_code(tmp_path) -> None:
    for words, code in (["--version"], 0), (["trian"], 2), (["train"], 2):
        done = subprocess.run([*KDFRAME, *words], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (code, code // 2)
