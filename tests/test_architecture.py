"""The shape of the package: who imports whom, what files are called, and where a part is found."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from kdframe.commands import usage
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kdframe"
FILES = sorted(PACKAGE.rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
COMMANDS = [p for p in FILES if p.parent.name == "commands" and p.stem in usage.COMMANDS]
REGISTRIES = {registry.kind: registry for registry in (BACKBONES, DATASETS, DISTILLERS, HOOKS)}

MAY_IMPORT = {  # the architecture; add to it only with a reason
    "nearest": set(),
    "values": {"nearest"},
    "registry": {"nearest", "values"},
    "parallel": {"exit_codes"},
    "together": {"parallel"},
    "writing": set(),
    "checkpoint": {"writing"},
    "solver": set(),
    "plan": set(),
    "finite": {"plan"},
    "signals": set(),
    "allocator": set(),
    # the config, from plain values up
    "yaml_text": {"values"},
    "layers": {"nearest", "values", "yaml_text"},
    "schema": {"layers", "values"},
    "modules": {"nearest", "registry", "values"},
    "options": {"modules", "nearest", "registry", "schema", "values"},
    "resolved": {"schema", "values"},
    "shipped": {"values"},
    "config": {"layers", "nearest", "options", "resolved", "schema", "shipped", "values"},
    "exit_codes": {"values"},
    "lock": {"config", "writing"},
    "run_files": {"values"},
    "run_folder": {"config", "lock", "run_files", "writing"},
    # the parts
    "backbones": {"registry"},
    "datasets": {"registry"},
    "distillers": {"registry", "backbones", "datasets"},
    "reports": {"registry", "layers", "resolved", "run_files", "backbones", "writing"},
    "hooks": {"registry", "reports", "writing"},
    "startup": {"hooks"},
    "arithmetic": {"parallel", "datasets", "distillation", "hooks", "plan"},
    # the path of a batch, from below
    "augmentation": {"datasets"},
    "loading": {"augmentation", "datasets", "signals"},
    "teacher_cache": {"parallel", "backbones", "datasets", "writing"},
    "answers": {"parallel", "backbones", "datasets", "teacher_cache"},
    "distillation": {"answers", "parallel", "backbones", "datasets", "teacher_cache"},
    "evaluation": {"parallel", "backbones", "datasets", "loading"},
    "trainer": {
        "checkpoint", "parallel", "backbones", "datasets", "distillation", "evaluation", "finite",
        "hooks", "loading", "plan", "signals",
    },
    "trial": {"answers", "backbones", "datasets", "distillation"},
    # the only readers of a config
    "build_loss": {
        "answers", "config", "parallel", "backbones", "datasets", "distillation", "plan",
        "registry", "teacher_cache",
    },
    "build": {
        "arithmetic", "build_loss", "config", "checkpoint", "parallel", "backbones", "datasets",
        "distillation", "hooks", "loading", "plan", "registry", "schema", "solver", "trainer",
    },
    "teachers": {
        "build", "checkpoint", "config", "evaluation", "parallel", "backbones", "teacher_cache",
        "trainer",
    },
    "doctor": {"arithmetic", "datasets"},
    "resuming": {
        "checkpoint", "config", "layers", "registry", "run_files", "run_folder", "schema",
        "trainer", "values",
    },
    "gradients": {"datasets", "distillation", "plan"},
    "rebuilt": {"backbones", "build", "checkpoint", "config", "run", "run_files", "schema"},
    "analysis": {
        "backbones", "build", "build_loss", "checkpoint", "config", "datasets", "distillation",
        "gradients", "loading", "rebuilt", "reports", "run_files", "schema", "writing",
    },
    "preflight": {
        "build", "config", "datasets", "loading", "parallel", "plan", "trainer", "trial",
    },
    "dry_run": {"build", "config", "preflight", "reports", "run", "teachers", "trainer"},
    "run": {
        "allocator", "arithmetic", "build", "build_loss", "checkpoint", "parallel", "backbones",
        "config", "evaluation", "hooks", "plan", "preflight", "reports", "resuming", "run_files",
        "run_folder", "signals", "startup", "teachers", "trainer", "writing",
    },
    # before and after a run
    "prognosis": {"build", "config", "doctor", "dry_run", "exit_codes", "resuming", "run"},
    "samples": {"build", "config", "datasets", "loading", "registry"},
    "finished": {
        "build", "build_loss", "checkpoint", "backbones", "config", "layers", "loading",
        "registry", "run_files", "run_folder", "trainer",
    },
    "formats": {"checkpoint", "backbones", "registry", "writing"},
    "export": {"formats", "loading", "writing"},
    "shipping": {"config", "export", "finished", "formats", "registry", "reports"},
    # many runs
    "study": {
        "build", "build_loss", "checkpoint", "config", "exit_codes", "hooks", "layers", "parallel",
        "lock", "plan", "reports", "resolved", "run", "run_files", "schema", "shipped", "signals",
        "trainer", "values", "writing",
    },
    # what is called from outside
    "commands": {
        "study",
        "analysis", "checkpoint", "doctor", "prognosis", "samples", "shipping",
        "build", "config", "dry_run", "exit_codes", "parallel", "registry", "reports", "run",
        "layers", "lock", "run_folder", "shipped", "signals", "together", "values",
        "writing",
    },
    "__main__": {"commands"},
}  # fmt: skip
EMPTY_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "engine", "manager"}


def by_name(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def nodes(path: Path) -> Iterator[ast.AST]:
    """What runs of a file: all but the blocks under ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def imported(path: Path) -> set[str]:
    """The modules of kdframe that a file imports: ``kdframe.backbones.base``."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name of what is imported"
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("kdframe.") and "__" not in name}


def room(path: Path) -> str:
    """The module or folder of kdframe that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def registered(path: Path) -> list[str]:
    """The names that a file's decorators register."""
    return [
        decorator.args[0].value
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr == "register"
        and isinstance(decorator.args[0], ast.Constant)
        and isinstance(decorator.args[0].value, str)
    ]


@by_name([path for path in FILES if path != PACKAGE / "__init__.py"])
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    assert room(path) in MAY_IMPORT, "a new room: say in MAY_IMPORT what it may import"
    rooms = {name.split(".")[1] for name in imported(path)}
    assert rooms <= MAY_IMPORT[room(path)] | {room(path)}


def test_no_import_leads_back() -> None:
    order = list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())
    assert set(order) == MAY_IMPORT.keys() == {room(p) for p in FILES} - {"__init__"}


@by_name([*FILES, *TOOLS])
def test_imports_stand_at_the_top(path: Path) -> None:
    """A command's main may wait with torch until the config's own keys are checked."""
    waits = {"main"} if path in COMMANDS else set()
    assert not [
        (node.name, ast.unparse(inner))
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and getattr(node, "name", "") not in waits
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def test_every_command_has_a_module_and_a_script() -> None:
    assert {path.stem for path in COMMANDS} == usage.COMMANDS.keys()
    assert {path.stem for path in TOOLS} == {command.script for command in usage.COMMANDS.values()}


@by_name(TOOLS)
def test_a_script_does_nothing_but_call_its_command(path: Path) -> None:
    scripts = {
        command.script: f"kdframe.commands.{name}" for name, command in usage.COMMANDS.items()
    }
    command = scripts[path.stem]
    assert imported(path) == {"kdframe.exit_codes", command, f"{command}.main"}
    assert not [node for node in nodes(path) if isinstance(node, ast.FunctionDef)]
    assert path.read_text().startswith("#!/usr/bin/env python\n") and path.stat().st_mode & 0o111


@pytest.mark.parametrize(
    "module", ["config", "registry", "exit_codes", "run_folder", "commands.study"]
)
def test_a_wrong_config_is_answered_without_torch(module: str) -> None:
    script = f"import sys, kdframe.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_the_package_itself_imports_nothing() -> None:
    top = nodes(PACKAGE / "__init__.py")
    assert not [node for node in top if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_file_of_parts_is_imported_by_its_folder(kind: str) -> None:
    """Or is named by an entry point; a file that only siblings use registers nothing."""
    folder = PACKAGE / kind
    files = {f"kdframe.{kind}.{p.stem}": p for p in folder.glob("*.py") if p.stem != "__init__"}
    lines = imported(folder / "__init__.py")
    entries = set(re.findall(rf"= (kdframe\.{kind}\.\w+):", (ROOT / "setup.py").read_text()))
    by_siblings = {name for path in files.values() for name in imported(path)}
    for name, path in files.items():
        assert name in (lines if registered(path) else lines | entries | by_siblings), name


@by_name([path for path in FILES if room(path) in REGISTRIES])
def test_a_part_is_in_the_file_of_its_name_or_family(path: Path) -> None:
    """``cifar10`` is in ``cifar.py``."""
    assert all(name.startswith(path.stem) for name in registered(path))
    assert all(name == name.lower() for name in registered(path))


def test_every_part_is_registered_by_a_decorator() -> None:
    """So what the tests above read in the files is what the registries know."""
    groups = [entry_points(group=f"kdframe.{kind}") for kind in REGISTRIES]
    installed = {entry.name for group in groups for entry in group}
    known = {
        name
        for registry in REGISTRIES.values()
        for name in set(registry) - installed
        if registry[name].__module__.startswith("kdframe.")
    }
    assert known == {name for path in FILES for name in registered(path)}


@by_name([*FILES, *TOOLS])
def test_a_file_is_named_for_what_is_in_it_and_can_be_read_in_one_go(path: Path) -> None:
    assert not {*path.relative_to(ROOT).with_suffix("").parts} & EMPTY_NAMES
    lines = path.read_text().count("\n")
    assert lines <= 320


@by_name([*FILES, *TOOLS])
def test_what_torch_loads_cannot_run_code(path: Path) -> None:
    calls = [node for node in nodes(path) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) == "torch.load":
            assert "weights_only=True" in map(ast.unparse, call.keywords)
