"""Parts from outside of the tree: an installed package, and a module of the working folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAB = ROOT / "examples/my_lab"
CONFIG = LAB / "configs/my_lab.yaml"
TRAIN = (ROOT / "tools/train_net.py", "--config-file")


def environment(folder: Path) -> Path:
    """The python of a new environment that sees this one's packages; nothing is downloaded."""
    venv.create(folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    answer = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    seen = f"{ROOT}\n{sysconfig.get_path('purelib')}\n"
    (Path(answer.stdout.strip()) / "seen.pth").write_text(seen)
    return python


def run(python: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment in which my_lab is installed."""
    folder = tmp_path_factory.mktemp("lab")
    python = environment(folder / "environment")
    source = shutil.copytree(LAB, folder / "my_lab")  # building leaves files beside setup.py
    flags = ("--no-index", "--no-deps", "--no-build-isolation", "--use-pep517")
    done = run(python, "-m", "pip", "install", *flags, source, cwd=folder)
    assert done.returncode == 0, done.stderr
    return python


def test_an_installed_part_is_listed(lab: Path, tmp_path: Path) -> None:
    shown = run(lab, ROOT / "tools/list_parts.py", "distillers", "my_logit_mse", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "my_lab/distillers.py" in Path(shown.stdout).as_posix()
    assert "Matches the teacher's logits." in shown.stdout
    assert re.search(r"SCALE +1\.0", shown.stdout)


def test_an_installed_term_is_called_by_name(lab: Path, tmp_path: Path) -> None:
    """0.5 * mean of (1 - 3)^2, (2 - 2)^2, which is 0.5 * 2."""
    script = """
import torch
from kdframe.backbones import Output
from kdframe.registry import DISTILLERS
student, teacher = (
    Output(torch.tensor([z]), torch.empty(0), []) for z in ([1.0, 2.0], [3.0, 2.0])
)
print(DISTILLERS["my_logit_mse"](student, teacher, None, scale=0.5).item())
"""
    done = run(lab, "-c", script, cwd=tmp_path)
    assert done.stdout == "1.0\n", done.stderr


def test_a_config_trains_with_an_installed_part_of_each_kind(lab: Path, tmp_path: Path) -> None:
    done = run(lab, *TRAIN, CONFIG, "OUTPUT_DIR", "tmp", "SOLVER.EPOCHS", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.5 my_logit_mse" in done.stdout
    lines = (tmp_path / "tmp/weight_norm.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [1, 2]
    assert all(float(line.split()[1]) > 0 for line in lines)


def test_the_config_is_refused_where_the_package_is_missing(tmp_path: Path) -> None:
    python = environment(tmp_path / "environment")
    refused = run(python, *TRAIN, CONFIG, "OUTPUT_DIR", "tmp", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert "has no 'my_" in refused.stderr
    assert not (tmp_path / "tmp").exists()


def test_the_term_in_the_readme_trains_from_the_working_folder(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "@DISTILLERS.register" in block]
    (tmp_path / "my_terms.py").write_text(block)
    (name,) = re.findall(r'register\("(\w+)"\)', block)
    (tmp_path / "c.yaml").write_text(f"""
MODULES: [my_terms]
STUDENT: {{NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}}
TEACHER: {{NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2, WEIGHTS: random}}
DATASET: {{NAME: glyphs, TRAIN: 72, TEST: 36, VAL: 0}}
LOSS: {{{name}: {{}}}}
SOLVER: {{EPOCHS: 1, BATCH_SIZE: 36}}
HOOKS: {{tensorboard: null, complexity: null, curves: null}}
""")
    done = run(Path(sys.executable), *TRAIN, "c.yaml", "OUTPUT_DIR", "tmp", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"L = {name}" in done.stdout
