"""kdframe away from its checkout: an sdist, the wheel made of it, and an editable install."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from kdframe import __version__
from kdframe.config import load

ROOT = Path(__file__).parents[1]
SOURCE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "kdframe", "configs")
PIP = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation")
TINY = ("DATASET.TRAIN=72", "DATASET.TEST=36", "DATASET.VAL=0", "SOLVER.EPOCHS=2")


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Without PYTHONPATH, which would show it this checkout."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True)


def environment(folder: Path) -> Path:
    """The bin of a new environment that sees this one's packages, but not this kdframe."""
    venv.create(folder, with_pip=False)
    where = folder / "bin"
    found = run(where / "python", "-c", "import site; print(*site.getsitepackages())", cwd=folder)
    (Path(found.stdout.strip()) / "seen.pth").write_text(sysconfig.get_path("purelib"))
    return where


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build needs of the checkout; building leaves files beside setup.py."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin of an environment with kdframe from a wheel that pip made of an sdist."""
    folder = tmp_path_factory.mktemp("installed")
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    done = run(sys.executable, "-c", build, cwd=source)
    assert done.returncode == 0, done.stderr
    where = environment(folder / "environment")
    done = run(where / "python", *PIP, *folder.glob("*.tar.gz"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return where


def test_the_command_is_the_installed_one(installed, tmp_path) -> None:
    done = run(installed / "kdframe", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"kdframe {__version__}\n"), done.stderr
    where = run(installed / "python", "-c", "import kdframe; print(kdframe.__file__)", cwd=tmp_path)
    assert Path(where.stdout).is_relative_to(installed.parent)


def test_every_config_of_the_checkout_is_installed(installed, tmp_path) -> None:
    (folder,) = installed.parent.rglob("site-packages/kdframe/configs")
    ours = {p.relative_to(ROOT / "configs"): p for p in ROOT.glob("configs/**/*.yaml")}
    assert {p.relative_to(folder) for p in folder.rglob("*.yaml")} == ours.keys()
    assert all((folder / name).read_bytes() == path.read_bytes() for name, path in ours.items())
    listed = run(installed / "kdframe", "parts", "configs", cwd=tmp_path)
    assert listed.stdout.splitlines()[0] == f"configs  {folder}"
    assert re.search(r"^  cifar100/resnet56_resnet20/dkd.yaml ", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["kd_feature.yaml", "cifar100/resnet56_resnet20/dkd.yaml"])
def test_a_shipped_config_is_the_checkouts(installed, name, tmp_path) -> None:
    """Bases, recipes and all: what is printed loads here to a config of the same digest."""
    words = ("train", "--config-file", name, "--print-config")
    done = run(installed / "kdframe", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "printed.yaml").write_text(done.stdout)
    assert load(tmp_path / "printed.yaml").digest() == load(ROOT / "configs" / name).digest()


def test_the_quick_start_trains_in_an_empty_folder(installed, tmp_path) -> None:
    """Its teacher and its baseline too: their recipes are found beside it."""
    words = ("train", "--config-file", "kd_feature.yaml", *TINY)
    done = run(installed / "kdframe", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = installed.parent.rglob("site-packages/kdframe/configs")
    assert f"kd_feature.yaml is kdframe's own: {folder / 'kd_feature.yaml'}" in done.stdout
    for row in ("teacher", "student alone", "distilled student"):
        assert f"\n {row} " in done.stdout
    assert (tmp_path / "runs/kd_feature/latest/results.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_file_in_the_working_folder_comes_first(installed, tmp_path) -> None:
    (tmp_path / "kd_feature.yaml").write_text("SOLVER: {EPOCHS: many}\n")
    done = run(installed / "kdframe", "train", "--config-file", "kd_feature.yaml", cwd=tmp_path)
    answer = "error: kd_feature.yaml: SOLVER.EPOCHS takes an int, not 'many'. (line 1)\n"
    assert (done.returncode, done.stderr) == (2, answer)


def test_an_unknown_config_is_answered_with_the_nearest_shipped_one(installed, tmp_path) -> None:
    done = run(installed / "kdframe", "train", "--config-file", "kd_featur.yaml", cwd=tmp_path)
    answer = "error: there is no file kd_featur.yaml. Did you mean kd_feature.yaml?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", answer)


def test_an_editable_install_reads_the_checkouts_configs(source, tmp_path) -> None:
    where = environment(tmp_path / "environment")
    done = run(where / "python", *PIP, "--editable", source, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (source / "kdframe/configs").exists()
    listed = run(where / "kdframe", "parts", "configs", cwd=tmp_path)
    assert listed.stdout.splitlines()[0] == f"configs  {source / 'configs'}", listed.stderr
    words = ("train", "--config-file", "student.yaml", "--print-config")
    assert run(where / "kdframe", *words, cwd=tmp_path).returncode == 0
