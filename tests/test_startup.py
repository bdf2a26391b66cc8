"""What is answered before torch is imported, and what that costs."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe.commands.usage import COMMANDS

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "tools/train_net.py")]
KDFRAME = [sys.executable, "-m", "kdframe"]
HEAVY = {"torch", "numpy", "timm", "torchvision", "fvcore", "PIL", "rich"}
CONFIG = """
DATASET: {NAME: glyphs}
STUDENT: {NAME: resnet18}
LOSS: {cross_entropy: {}}
"""
WRONG = {  # what stands on the command line, and how it is answered
    "SOLVER.EPOHS=3": "there is no SOLVER.EPOHS. Did you mean SOLVER.EPOCHS?",
    "SOLVER.EPOCHS=many": "SOLVER.EPOCHS takes an int, not 'many'",
    "SOLVER.LR=nan": "SOLVER.LR takes a finite number above 0, not nan",
    "TEACHER.CONFIG=none.yaml": "there is no file none.yaml",
    "STUDENT.WEIGHTS=none.pt": "there is no file none.pt",
    "LOSS={cross_entropy: null}": "every term is null",
    "SOLVER.SCHEDULE=steps": "steps needs STEPS",
    "OUTPUT_DIR=used": "used holds a run",
}


def imported(stderr: str) -> set[str]:
    """Top-level modules in the output of ``-X importtime``."""
    return {name.split(".")[0] for name in re.findall(r"\| +([\w.]+)$", stderr, re.MULTILINE)}


@pytest.mark.parametrize("tool", sorted((ROOT / "tools").glob("*.py")), ids=lambda p: p.stem)
def test_help_imports_nothing_heavy(tool) -> None:
    words = [sys.executable, "-X", "importtime", str(tool), "-h"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: ")
    found = imported(done.stderr)
    assert "argparse" in found and not found & HEAVY


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=str)
def test_help_of_the_entry_point_imports_nothing_heavy_and_no_other_command(words) -> None:
    script = """
import atexit, sys
from kdframe.commands.dispatch import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "-h"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith(" ".join(("usage: kdframe", *words)))
    modules = set(done.stderr.split())
    assert not modules & HEAVY
    commands = {name.rpartition(".")[2] for name in modules if name.startswith("kdframe.commands.")}
    assert commands == {"dispatch", "usage", *words}


@pytest.mark.parametrize("word", WRONG)
def test_what_needs_no_part_is_answered_without_torch(tmp_path, word) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "used").mkdir()
    (tmp_path / "used/run.json").write_text("{}")
    words = [sys.executable, "-X", "importtime", *TRAIN[1:], "--config-file", "c.yaml", word]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert WRONG[word] in done.stderr.splitlines()[-1]
    assert not imported(done.stderr) & HEAVY


def cpu_seconds(*words: str) -> float:
    """Of a process, user's and system's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("caller", [TRAIN, [*KDFRAME, "train"], KDFRAME], ids=len)
def test_help_costs_at_most_a_fifth_of_importing_torch(caller) -> None:
    """The least of three, in turns; measured: 0.06 to 0.08."""
    turns = [
        (cpu_seconds(*caller, "-h"), cpu_seconds(sys.executable, "-c", "import torch"))
        for _ in range(3)
    ]
    helped, torch = (min(column) for column in zip(*turns, strict=True))
    assert helped <= 0.2 * torch
