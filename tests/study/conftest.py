"""A working folder with tiny configs, and the command."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STUDY = [sys.executable, str(ROOT / "tools/run_study.py"), "--study"]
TINY = {
    "base": """
DATASET: {NAME: glyphs, TRAIN: 180, TEST: 72, VAL: 36}
SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 2, BATCH_SIZE: 36}
HOOKS: {metrics: {PERIOD: 1}, tensorboard: null, curves: null}
""",
    "student": """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
LOSS: {cross_entropy: {}}
""",
    "teacher": """
_BASE_: student.yaml
DATASET: {TRAIN: 720}
STUDENT: {WIDTH: 16}
SOLVER: {EPOCHS: 12}
""",
    "kd": """
_BASE_: student.yaml
TEACHER: {CONFIG: teacher.yaml}
BASELINE: student.yaml
LOSS: {kd: {}}
""",
    "study": """
ROWS:
  teacher: {CONFIG: teacher.yaml, SEEDS: [0], BASELINE: ''}
  student: {CONFIG: student.yaml}
  kd: {CONFIG: kd.yaml, LABEL: soft labels}
  feature: {CONFIG: kd.yaml, OVERRIDES: {LOSS: {feature: {}}}, SEEDS: [0]}
SEEDS: [0, 1]
BASELINE: student
TEACHER_CACHE: fp32
""",
}
Command = Callable[..., subprocess.CompletedProcess[str]]


def fill(folder: Path) -> Path:
    for name, text in TINY.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder of this test."""
    monkeypatch.chdir(fill(tmp_path))
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run_study() -> Command:
    """Runs the command to its end."""

    def command(where: Path, *words: str, study: str = "study.yaml") -> Any:
        line = [*STUDY, study, *words]
        return subprocess.run(
            line, cwd=where, capture_output=True, text=True, env=environment(), check=False
        )

    return command


@pytest.fixture(scope="session")
def start_study() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command; its errors are on stdout as well."""

    def start(where: Path, *words: str, study: str, stderr: int = subprocess.STDOUT) -> Any:
        return subprocess.Popen(
            [*STUDY, study, *words],
            cwd=where,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(),
        )

    return start


@pytest.fixture
def there(tmp_path) -> Path:
    """The working folder of a test's own commands."""
    return fill(tmp_path)


@pytest.fixture(scope="module")
def where(tmp_path_factory) -> Path:
    """A working folder of its own for a file of tests."""
    return fill(tmp_path_factory.mktemp("study"))
