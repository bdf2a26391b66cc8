"""A real run's analysis and page: what is measured is what the run said, and is measured once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdframe import analysis
from kdframe.analysis import analyse, analyse_all
from kdframe.config import ConfigError
from kdframe.reports import page, runs

ROOT = Path(__file__).parents[1]
BASE = """
DATASET: {NAME: glyphs, TRAIN: 720, TEST: 180, VAL: 72}
SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 2, BATCH_SIZE: 54}
HOOKS: {tensorboard: null, curves: null}
"""
STUDENT = """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
LOSS: {cross_entropy: {}}
"""
TEACHER = """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 16, STRIDE: 2}
LOSS: {cross_entropy: {}}
SOLVER: {EPOCHS: 15}
"""
KD = """
_BASE_: student.yaml
TEACHER: {CONFIG: teacher.yaml}
BASELINE: student.yaml
LOSS: {cross_entropy: {}, feature: {WEIGHT: 0.0001}}
"""


def tool(name: str, where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"tools/{name}.py"), *words]
    return subprocess.run(command, cwd=where, capture_output=True, text=True)


@pytest.fixture(scope="module")
def where(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("work")
    for name, text in (("base", BASE), ("student", STUDENT), ("teacher", TEACHER), ("kd", KD)):
        (where / f"{name}.yaml").write_text(text)
    words = ("--config-file", "kd.yaml", "OUTPUT_DIR", "study/kd/s0")
    done = tool("train_net", where, *words)
    assert done.returncode == 0, done.stderr
    return where


@pytest.fixture(scope="module")
def told(where) -> str:
    """What the command prints; it leaves the page of the run."""
    done = tool("report", where, "study/kd/s0")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def measured(where, told) -> dict:
    return json.loads((where / "study/kd/s0/analysis.json").read_text())


def test_it_says_what_it_did_and_where_it_is(where, told) -> None:
    lines = told.splitlines()
    assert lines[0].startswith("study/kd/s0  180 test images, ")
    assert lines[1].startswith("study/kd/s0/report.html  ")
    assert lines[2] == "study/kd/s0/report  17 files"
    assert len(list((where / "study/kd/s0/report").iterdir())) == 17


def test_the_networks_are_those_of_the_run(where, measured) -> None:
    """Their accuracy, calibration and agreement are those of results.json."""
    said = json.loads((where / "study/kd/s0/results.json").read_text())
    for who, key in (("student", "test"), ("teacher", "teacher"), ("baseline", "baseline")):
        found = measured["networks"][who]
        for figure in ("top1", "nll", "ece"):
            assert found[figure] == pytest.approx(said[key][figure], rel=1e-4), (who, figure)
        assert 100 * sum(found["right"]) / 180 == pytest.approx(said[key]["top1"])
    assert measured["likeness"]["student"]["agreement"] == pytest.approx(said["agreement"])
    assert sum(measured["class_images"]) == measured["images"] == 180


def test_all_stages_are_compared_with_all(measured) -> None:
    cka = measured["likeness"]["student"]["cka"]
    assert len(cka) == len(cka[0]) == 4
    assert all(-0.1 < x <= 1.0 for row in cka for x in row)


def test_a_weight_that_does_nothing_is_found(measured, where) -> None:
    first, last = measured["gradients"]
    assert (first["step"], last["step"]) == (0, 24)
    for moment in (first, last):
        assert moment["terms"]["feature"]["share"] < 0.01
        assert moment["warnings"].keys() == {"feature", "cross_entropy"}
    assert "feature makes up " in (where / "study/kd/s0/report.html").read_text()


def test_the_first_loss_is_that_of_the_training(where, measured) -> None:
    """ln 36 for 36 classes and a student that knows nothing, before it has moved."""
    first = measured["gradients"][0]["terms"]["cross_entropy"]
    assert first["value"] == pytest.approx(3.6, abs=0.3)


def test_the_page_shows_the_recipes_curves(where, told) -> None:
    text = (where / "study/kd/s0/report.html").read_text()
    assert text.count('class="line ') == 2 * 3 + 3  # kd, student alone, teacher; three sums
    assert "glyphs" in text


def test_without_an_analysis_that_of_before_is_shown(where, told) -> None:
    words = ("study/kd/s0", "--no-analysis", "--out", "known")
    done = tool("report", where, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("study/kd/s0  180 test images, known from before\n")
    assert 'id="likeness"' in (where / "known/report.html").read_text()
    other = tool("report", where, *words, "--images", "50")
    assert other.stdout.startswith("known/report.html ")


def test_it_is_measured_once(where, told, measured) -> None:
    """And again where more images are asked for, or the student is another."""
    path = where / "study/kd/s0/analysis.json"
    before = path.stat().st_mtime_ns
    again = tool("report", where, "study")
    assert again.returncode == 0, again.stderr
    assert "180 test images, known from before" in again.stdout
    assert path.stat().st_mtime_ns == before
    assert (where / "study/report.html").exists()
    some = tool("report", where, "study/kd/s0", "--images", "60", "--out", "pages")
    assert some.stdout.startswith("study/kd/s0  60 test images, ")
    assert (where / "pages/report.html").exists() and (where / "pages/report/cka.png").exists()


@pytest.fixture
def copied(where, told, tmp_path, monkeypatch) -> Path:
    """A working folder to break."""
    shutil.copytree(where, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    Path("study/kd/s0/analysis.json").unlink()
    return Path("study/kd/s0")


def test_a_teacher_that_is_gone_is_left_out_and_said(copied) -> None:
    recipe = next(Path("runs/recipes").glob("teacher-*"))
    (recipe / "student.safetensors").unlink()
    found = analyse(copied, torch.device("cpu"))
    assert found["networks"].keys() == {"student", "baseline"} and found["likeness"] == {}
    assert "teacher is left out: " in found["notes"][0]
    study = runs.read(copied)
    study.rows[0].runs[0].analysis = found
    assert "teacher is left out: " in page.html(study)


def test_a_folder_that_cannot_be_written_costs_its_analysis_alone(copied, monkeypatch) -> None:
    def refuse(path, content) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(analysis.writing, "write_json", refuse)
    study = runs.read(copied)
    first, second = analyse_all(study, torch.device("cpu"), 60)
    assert "60 test images, " in first and not first.endswith("known from before")
    assert "couldn't be kept: [Errno 13] Permission denied: " in second
    assert study.rows[0].runs[0].analysis["networks"].keys() == {"student", "baseline", "teacher"}


def test_a_run_whose_recipe_changed_is_not_analysed(where, copied) -> None:
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace(str(where), str(Path.cwd())))
    Path("teacher.yaml").write_text(TEACHER.replace("EPOCHS: 15", "EPOCHS: 14"))
    with pytest.raises(ConfigError, match="makes another run than this folder's"):
        analyse(copied, torch.device("cpu"))
    done = tool("report", Path.cwd(), str(copied))
    assert done.returncode == 0, done.stderr
    assert "not analysed: " in done.stdout
    assert "its networks weren&#39;t asked" in (copied / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "error: nowhere: there is no such folder.\n"),
        (["student.yaml"], "error: student.yaml: it is a file, and no run's or study's folder.\n"),
        (
            ["runs"],
            "error: runs: there is no run in it: ",
        ),
        (
            ["study", "--images", "-1"],
            "error: --images takes a number from 1, ",
        ),
        (["study", "--device", "tpu"], "error: --device: "),
    ],
)
def test_a_users_mistake_is_one_line(where, words, said) -> None:
    folder = where if words != ["runs"] else where / "study/kd"
    if words == ["runs"]:
        (folder / "runs").mkdir(exist_ok=True)
    done = tool("report", folder, *words)
    assert done.returncode == 2
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_h_has_examples() -> None:
    done = tool("report", ROOT, "-h")
    assert done.returncode == 0 and "tools/report.py runs/studies/quick" in done.stdout
