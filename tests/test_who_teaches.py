"""Runs in which a teacher learns too, is one of several, was taught itself, or lends its head."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe import checkpoint

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file"]

CONFIGS = {
    "base": """
        STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
        DATASET: {NAME: glyphs, TRAIN: 144, TEST: 36, VAL: 36}
        SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 2, BATCH_SIZE: 36}
        HOOKS: {metrics: {PERIOD: 1}, tensorboard: null, curves: null, complexity: null}
        LOSS: {cross_entropy: {}}
    """,
    "dml": """
        _BASE_: base.yaml
        TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, TRAIN: true}
        LOSS: {dml: {}}
    """,
    "first": """
        _BASE_: base.yaml
        TEACHER: {NAME: resnet8, WEIGHTS: random}
        LOSS: {kd: {}}
    """,
    "second": """
        _BASE_: base.yaml
        TEACHER: {CONFIG: first.yaml}
        TEACHER/2: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random}
        LOSS: {kd_ensemble: {}}
    """,
    "simkd": """
        _BASE_: base.yaml
        TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random}
        LOSS: {cross_entropy: null, simkd: {}}
    """,
}


@pytest.fixture
def where(tmp_path) -> Path:
    for name, text in CONFIGS.items():
        lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
        (tmp_path / f"{name}.yaml").write_text("\n".join(lines))
    return tmp_path


def train(where: Path, config: str, *words: str) -> str:
    command = [*TRAIN, f"{config}.yaml", "OUTPUT_DIR", config, *words]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_two_networks_that_teach_each_other_are_both_measured_and_saved(where) -> None:
    said = train(where, "dml")
    assert "L = cross_entropy + dml" in said
    found = results(where / "dml")
    assert {"top1", "agreement"} <= found["test"].keys() and "teacher" in found
    assert found["val"].keys() >= {"nll", "teacher/nll"}
    lines = [json.loads(x) for x in (where / "dml/metrics.jsonl").read_text().splitlines()]
    assert {"loss/dml", "loss/teacher/dml", "loss/teacher/cross_entropy"} <= lines[0].keys()
    state = checkpoint.newest(where / "dml/checkpoints")
    weights, _ = checkpoint.load_weights(where / "dml/teacher.safetensors")
    assert state is not None
    assert checkpoint.digest(state["partner"]) == checkpoint.digest(weights)


def test_an_assistant_is_trained_by_its_own_teacher_and_stands_beside_another(where) -> None:
    """It learns nothing in two epochs: the gate lets only a teacher through that is said random."""
    command = [*TRAIN, "second.yaml", "OUTPUT_DIR", "chain"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 2
    assert "TEACHER.CONFIG: first.yaml is first trained" in done.stdout
    assert "L = cross_entropy + kd\n" in done.stdout
    assert "TEACHER: it names" in done.stderr and "chance reaches" in done.stderr
    said = train(where, "second", "TEACHER.WEIGHTS", "random")
    assert "teacher/2  cifar_resnet: " in said and "L = cross_entropy + kd_ensemble" in said
    assert {"teacher", "teacher/2"} <= results(where / "second").keys()


def test_what_simkd_deploys_is_counted_evaluated_and_read_again(where) -> None:
    said = train(where, "simkd")
    assert "student  cifar_resnet: " in said
    weights, _ = checkpoint.load_weights(where / "simkd/student.safetensors")
    assert {name.split(".")[0] for name in weights} == {"student", "projector", "classifier"}
    parameters = sum(
        w.numel() for n, w in weights.items() if "running" not in n and "num_b" not in n
    )
    assert f"student  cifar_resnet: {parameters:,} parameters" in said
    train(where, "simkd", "--eval-only")
    again = json.loads((where / "simkd/eval.json").read_text())["test"]
    found = results(where / "simkd")["test"]
    assert {k: found[k] for k in again} == again
