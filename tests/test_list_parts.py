import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe import exit_codes
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "tools/list_parts.py")


@pytest.fixture
def list_parts(monkeypatch, capsys):
    """The script's exit code, and what it prints on stdout and stderr."""

    def call(*words: str) -> tuple[int, list[str], str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [SCRIPT, *words])
        code = exit_codes.answered(runpy.run_path(SCRIPT)["main"])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return call


def test_every_part_is_listed_with_its_options_and_a_family_by_its_number(list_parts) -> None:
    _, lines, _ = list_parts()
    for registry in (BACKBONES, DATASETS, DISTILLERS, HOOKS):
        assert registry.kind in lines
        for name in registry:
            assert any(line.split()[:1] == [name] for line in lines)
            for option in registry.options(name):
                assert any(line.split()[:1] == [option.upper()] for line in lines)
    more = len(BACKBONES.names()) - len(BACKBONES)
    assert f"  and {more} more of a library; ask for one by NAME" in lines


def test_a_part_is_shown_with_file_first_line_options_and_defaults(list_parts) -> None:
    lines = [line.split() for line in list_parts("distillers", "kd")[1]]
    assert lines[0] == ["kd", "kdframe/distillers/kd.py"]
    assert " ".join(lines[1]) == DISTILLERS["kd"].__doc__.splitlines()[0]
    assert ["TEMPERATURE", "4.0"] in lines


def test_a_librarys_part_is_shown_by_name(list_parts) -> None:
    lines = [line.split() for line in list_parts("backbones", "resnet18")[1]]
    assert lines[0][0] == "resnet18"
    assert [option.upper() for option in BACKBONES.options("resnet18")] == [
        words[0] for words in lines[2:] if words
    ]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("backbones", "resnt18"), "backbones has no 'resnt18'. Did you mean resnet18?"),
        (
            ("distiller",),
            "KIND takes one of backbones, datasets, distillers, hooks, not 'distiller'. "
            "Did you mean distillers?",
        ),
    ],
)
def test_a_wrong_kind_or_name_is_one_line_and_exit_code_2(list_parts, words, answer) -> None:
    assert list_parts(*words) == (2, [], f"error: {answer}\n")


def test_help_and_a_wrong_kind_need_no_torch() -> None:
    for word, code in (("-h", 0), ("nothing", 2)):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", SCRIPT, word],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == code
        assert "kdframe.registry" in done.stderr
        assert " torch\n" not in done.stderr
