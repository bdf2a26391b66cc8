import inspect
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe import exit_codes
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS, NEEDS
from kdframe.reports.methods import COMMAND

ROOT = Path(__file__).parents[2]
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


def test_a_term_is_shown_whole_with_source_options_and_needs(list_parts) -> None:
    code, lines, _ = list_parts("distillers", "sp")
    assert code == 0
    assert lines[0].split() == ["sp", "kdframe/distillers/sp.py"]
    assert lines[1] == sys.modules["kdframe.distillers.sp"].__doc__.splitlines()[0]
    assert inspect.getdoc(DISTILLERS["sp"]) in "\n".join(lines)
    assert "    STAGES [-1]" in lines
    assert f"    global_batch: {NEEDS['global_batch']}" in lines


@pytest.mark.parametrize(
    ("name", "words"),
    [("kd", []), ("cross_entropy", ["no teacher"]), ("fitnet", ["learned"])],
)
def test_a_term_says_what_it_needs_and_learns(list_parts, name, words) -> None:
    _, lines, _ = list_parts("distillers", name)
    said = lines[lines.index("Needs:") + 1 :] if words else []
    assert ("Needs:" in lines) == bool(words)
    assert [line.strip().partition(":")[0] for line in said] == words


@pytest.mark.parametrize(
    ("kind", "name"), [("hooks", "curves"), ("datasets", "glyphs"), ("backbones", "cifar_resnet")]
)
def test_a_part_of_any_kind_is_shown_with_its_whole_docstring(list_parts, kind, name) -> None:
    registry = {r.kind: r for r in (BACKBONES, DATASETS, HOOKS)}[kind]
    _, lines, _ = list_parts(kind, name)
    assert inspect.getdoc(registry[name]) in "\n".join(lines)
    said = [line.split()[0] for line in lines[lines.index("Options:") + 1 :]]
    assert said == [option.upper() for option in registry.options(name)]


def test_a_librarys_part_is_shown_by_name(list_parts) -> None:
    _, lines, _ = list_parts("backbones", "resnet18")
    assert lines[0].split() == ["resnet18", "kdframe/backbones/timm.py"]
    said = [line.split()[0] for line in lines[lines.index("Options:") + 1 :]]
    assert said == [option.upper() for option in BACKBONES.options("resnet18")]


def test_the_page_of_methods_is_what_the_registry_says(list_parts) -> None:
    code, lines, _ = list_parts("distillers", "--markdown")
    assert code == 0
    written = (ROOT / "docs/methods.md").read_text().splitlines()
    assert lines == written, f"write it anew: python {COMMAND} > docs/methods.md"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("backbones", "resnt18"), "backbones has no 'resnt18'. Did you mean resnet18?"),
        (
            ("distiller",),
            "KIND takes one of backbones, datasets, distillers, hooks, configs, not "
            "'distiller'. Did you mean distillers?",
        ),
        (
            ("configs", "studnt"),
            "studnt is no .yaml file; nothing else is read. Did you mean student.yaml?",
        ),
        (
            ("configs", str(ROOT / "configs")),
            f"{ROOT / 'configs'} is no .yaml file; nothing else is read.",
        ),
        (
            ("configs", "https://x.org/a.yaml"),
            "https:/x.org/a.yaml is an address; only files are read.",
        ),
        (("hooks", "--markdown"), "--markdown takes the KIND distillers, and no NAME."),
        (("distillers", "kd", "--markdown"), "--markdown takes the KIND distillers, and no NAME."),
    ],
)
def test_a_wrong_kind_or_name_is_one_line_and_exit_code_2(list_parts, words, answer) -> None:
    assert list_parts(*words) == (2, [], f"error: {answer}\n")


def test_every_shipped_config_is_listed_with_the_first_sentence_of_its_head(list_parts) -> None:
    code, lines, _ = list_parts("configs")
    assert (code, lines[0].split()) == (0, ["configs", str(ROOT / "configs")])
    files = {p.relative_to(ROOT / "configs").as_posix() for p in ROOT.glob("configs/**/*.yaml")}
    listed = dict(line.split(maxsplit=1) for line in lines[2:])
    assert listed.keys() == {file for file in files if Path(file).name != "base.yaml"}
    assert listed["teacher.yaml"] == (
        "The quick start's teacher; the other files train it when they need it."
    )


def test_a_shipped_config_is_shown_as_it_is_written(list_parts) -> None:
    code, lines, _ = list_parts("configs", "kd_response.yaml")
    file = ROOT / "configs/kd_response.yaml"
    assert (code, lines) == (0, [f"# {file}", *file.read_text().splitlines()])


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
