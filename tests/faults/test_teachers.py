"""Wrong teachers: each is refused in one line before the first step, or repaired and told."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdframe import checkpoint

KD = """
_BASE_: student.yaml
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 16, STRIDE: 2, WEIGHTS: teacher.pt}
LOSS: {kd: {}}
SOLVER: {EPOCHS: 1}
"""
Weights = dict[str, torch.Tensor]


@pytest.fixture
def teacher(lab) -> Path:
    """The file of a teacher that knows something."""
    words = ("DATASET.TRAIN", "720")
    return lab.uninterrupted(*words, config="teacher.yaml") / "student.safetensors"


def taught(lab, weights: Weights, about: dict | None = None, name: str = "teacher.pt"):
    """A run with these weights as its teacher's."""
    lab.write("wrong.yaml", KD.replace("teacher.pt", name))
    if about is None:
        torch.save(weights, lab.where / name)
    else:
        checkpoint.save_weights(lab.where / name, weights, about)
    return lab.run("OUTPUT_DIR", "run", config="wrong.yaml")


def refused(done: subprocess.CompletedProcess[str], lab, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not list((lab.where / "run").glob("**/*.safetensors"))


def noise(weights: Weights) -> Weights:
    torch.manual_seed(0)
    return {
        name: torch.randn_like(t).abs() if t.is_floating_point() else t
        for name, t in weights.items()
    }


SLOW = pytest.mark.faults
FAST = "half of its tensors"
WRONG: dict[str, tuple[Callable[[Weights], Weights], tuple[str, ...]]] = {
    "half of its tensors": (
        lambda w: dict(list(w.items())[: len(w) // 2]),
        ("TEACHER.WEIGHTS", "doesn't fit: lacks"),
    ),
    "a tensor too many": (
        lambda w: {**w, "more": torch.ones(2)},
        ("TEACHER.WEIGHTS", "has more too many"),
    ),
    "other classes": (
        lambda w: {k: t[:7] if len(t.shape) and len(t) == 36 else t for k, t in w.items()},
        ("TEACHER.WEIGHTS", "in the file and (36"),
    ),
    "random weights": (noise, ("TEACHER", "chance reaches", "WEIGHTS: random")),
}


@pytest.mark.parametrize("what", [FAST, *(pytest.param(w, marks=SLOW) for w in WRONG if w != FAST)])
def test_a_wrong_teacher_is_refused(lab, teacher, count, what) -> None:
    spoil, words = WRONG[what]
    refused(taught(lab, spoil(checkpoint.load_weights(teacher)[0])), lab, *words)
    count("wrong teachers found")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("classes", lambda names: names[::-1], "with classes (Z, Y, X"),
        ("mean", lambda numbers: [0.5, 0.25, 0.125], "with mean (0.5, 0.25, 0.125)"),
        ("std", lambda numbers: [0.5, 0.25, 0.125], "with std (0.5, 0.25, 0.125)"),
    ],
)
def test_a_teacher_of_other_data_is_refused(lab, teacher, count, key, change, said) -> None:
    weights, about = checkpoint.load_weights(teacher)
    about[key] = change(about[key])
    refused(taught(lab, weights, about, "teacher.safetensors"), lab, "TEACHER.WEIGHTS", said)
    count("wrong teachers found")


@pytest.mark.parametrize("kind", ["pt", pytest.param("safetensors", marks=SLOW)])
def test_a_truncated_teacher_is_refused(lab, teacher, count, kind) -> None:
    weights, _ = checkpoint.load_weights(teacher)
    path = lab.where / f"teacher.{kind}"
    lab.write("wrong.yaml", KD.replace("teacher.pt", path.name))
    if kind == "pt":
        torch.save(weights, path)
    else:
        shutil.copy(teacher, path)
    os.truncate(path, path.stat().st_size * 2 // 3)
    refused(lab.run("OUTPUT_DIR", "run", config="wrong.yaml"), lab, f"teacher.{kind}")
    count("wrong teachers found")


@pytest.mark.faults
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_prefix_is_repaired_and_told(lab, teacher, prefix) -> None:
    weights, _ = checkpoint.load_weights(teacher)
    done = taught(lab, {f"{prefix}{name}": t for name, t in weights.items()})
    assert done.returncode == 0, done.stderr
    for part in prefix.rstrip(".").split("."):
        assert f"the prefix '{part}.' is taken off" in done.stdout
    found = json.loads((lab.where / "run/results.json").read_text())
    assert found["teacher"]["top1"] > 10
