"""Distillers written wrongly on purpose, each a module of the user's: refused or named."""

import os
from pathlib import Path

import pytest

TERMS = '''
import torch
from torch import nn
from torch.nn import functional as F

from kdframe.registry import DISTILLERS


def map_of(backbone):
    return backbone.channels_of((3,))[0]


class Adapts(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        self.keep(nn.Conv2d(map_of(student), map_of(teacher), 1), teacher)

    def keep(self, adapter, teacher):
        self.adapter = adapter

    def adapted(self, student):
        return self.adapter(student.features[3])

    def forward(self, student, teacher, batch):
        return F.mse_loss(self.adapted(student), teacher.features[3])


@DISTILLERS.register("right")
class Right(Adapts):
    """Nothing is wrong with it."""


@DISTILLERS.register("unregistered")
class Unregistered(Adapts):
    """Keeps its adapter where torch doesn't look."""

    def keep(self, adapter, teacher):
        self.adapters = [adapter]

    def adapted(self, student):
        return self.adapters[0](student.features[3])


@DISTILLERS.register("detaches")
class Detaches(Adapts):
    """Takes the gradient from all that it has."""

    def adapted(self, student):
        return super().adapted(student).detach()


@DISTILLERS.register("half_detached")
class HalfDetached(Adapts):
    """Its adapter learns nothing, the student does."""

    def forward(self, student, teacher, batch):
        return student.logits.square().mean() + super().forward(student, teacher, batch).detach()


@DISTILLERS.register("broadcasts")
def broadcasts(student, teacher, batch):
    """Compares a student's largest logit with all of the teacher's."""
    return (student.logits.amax(dim=1, keepdim=True) - teacher.logits).square().mean()


@DISTILLERS.register("rows_by_columns")
def rows_by_columns(student, teacher, batch):
    """Compares (B, 1) with (B,): every image with every other."""
    return (student.logits.amax(dim=1, keepdim=True) - teacher.logits.amax(dim=1)).square().mean()


@DISTILLERS.register("trains_teacher")
class TrainsTeacher(Adapts):
    """Puts the teacher to training."""

    def keep(self, adapter, teacher):
        self.adapter, self.others = adapter, (teacher,)

    def forward(self, student, teacher, batch):
        self.others[0].train()
        return super().forward(student, teacher, batch)


@DISTILLERS.register("changes_teacher")
class ChangesTeacher(TrainsTeacher):
    """Writes to a buffer of the teacher's."""

    def forward(self, student, teacher, batch):
        next(iter(self.others[0].buffers())).add_(1e-3)
        return Adapts.forward(self, student, teacher, batch)


@DISTILLERS.register("changes_later")
class ChangesLater(TrainsTeacher):
    """Does so from the third batch on, through .data."""

    def forward(self, student, teacher, batch):
        if batch.epoch > 0.3:
            next(iter(self.others[0].parameters())).data.add_(1e-3)
        return Adapts.forward(self, student, teacher, batch)


@DISTILLERS.register("keeps_teacher")
class KeepsTeacher(Adapts):
    """Makes the teacher a part of itself."""

    def keep(self, adapter, teacher):
        self.adapter, self.teacher = adapter, teacher


@DISTILLERS.register("not_a_number")
class NotANumber(Adapts):
    """Gives NaN in its fourth step."""

    def forward(self, student, teacher, batch):
        value = super().forward(student, teacher, batch)
        return value * float("nan") if batch.epoch == 0.5 else value


@DISTILLERS.register("bad_gradient")
class BadGradient(Adapts):
    """A norm, whose gradient at 0 is NaN."""

    def forward(self, student, teacher, batch):
        value = super().forward(student, teacher, batch)
        return value + (student.logits * float(batch.epoch < 0.5)).square().sum().sqrt()


@DISTILLERS.register("bad_statistics")
class BadStatistics(Adapts):
    """Spoils the student's BatchNorm, whose loss in training stays finite."""

    def keep(self, adapter, teacher):
        self.adapter = adapter
        self.norm = nn.BatchNorm2d(1)

    def forward(self, student, teacher, batch):
        if batch.epoch >= 0.5:
            self.norm.running_var.fill_(float("inf"))
        return super().forward(student, teacher, batch)
'''
WORDS = ("MODULES", "[terms]", "OUTPUT_DIR", "run", "SOLVER.EPOCHS", "2")

HERE = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), "."])}  # finds terms.py

REFUSED = {
    "unregistered": "2 of its parameters ((32,), (32, 16, 1, 1)) would never be trained: "
    "adapters isn't registered.",
    "detaches": "no gradient comes from it",
    "trains_teacher": "it changes the teacher",
    "changes_teacher": "it changes the teacher",
    "keeps_teacher": "its teacher is the teacher",
}
NAMED = {
    "half_detached": "no gradient reaches adapter.weight, adapter.bias: it would stay as it is.",
    "broadcasts": "it compares (48, 1) of the student with (48, 36) of the teacher",
    "rows_by_columns": "it compares (48, 1) of the student with (48,) of the teacher",
}
SAID = {
    "not_a_number": "at step 3: not_a_number isn't finite.",
    "bad_gradient": "at step 3: the gradient of student.",
    "bad_statistics": "by step 6: a weight isn't finite, learned.bad_statistics.",
}


def some(names, *fast: str) -> list:
    """Those that plain pytest runs, and the others for ``-m faults``."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.faults) for n in names]


def run(lab, term: str, *words: str):
    lab.write("terms.py", TERMS)
    loss = f"{{cross_entropy: {{}}, kd: null, feature: null, {term}: {{}}}}"
    return lab.run(*WORDS, "LOSS", loss, *words, config="kd.yaml", env=HERE)


@pytest.mark.parametrize("term", some(REFUSED, "unregistered", "trains_teacher"))
def test_a_term_that_would_be_wrong_without_a_word_is_refused(lab, count, term) -> None:
    done = run(lab, term)
    assert done.returncode == 2, done.stderr + done.stdout
    assert done.stderr.startswith(f"error: command line: LOSS.{term}: {REFUSED[term]}")
    assert done.stderr.count("\n") == 1
    assert not (lab.where / "run").exists()
    count("wrong distillers found", 1)


@pytest.mark.parametrize("term", some(NAMED))
def test_a_term_that_may_be_meant_is_named_once(lab, count, term) -> None:
    done = run(lab, term, "SOLVER.EPOCHS", "1")
    assert done.returncode == 0, done.stderr
    line = f"warning: command line: LOSS.{term}: {NAMED[term]}"
    assert done.stdout.count(line) == done.stdout.count("warning:") == 1
    count("wrong distillers found", 1)


@pytest.mark.faults
def test_a_right_term_is_not_remarked_on(lab) -> None:
    done = run(lab, "right", "SOLVER.EPOCHS", "1")
    assert done.returncode == 0 and "warning" not in done.stdout, done.stderr


@pytest.mark.faults
def test_a_teacher_that_changes_during_training_leaves_no_student(lab, count) -> None:
    done = run(lab, "changes_later", "SOLVER.EPOCHS", "1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: TEACHER: it isn't the network any more that it was")
    assert not (lab.where / "run/student.safetensors").exists()
    count("wrong distillers found", 1)


@pytest.mark.parametrize("term", some(SAID, "bad_gradient"))
def test_a_number_that_is_not_finite_ends_the_run_and_is_not_kept(lab, count, term) -> None:
    done = run(lab, term, "SOLVER.EPOCHS", "1")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(f"error: diverged {SAID[term]}") and done.stderr.count("\n") == 1
    kept = {p.name for p in lab.where.glob("run/**/*") if p.suffix in (".pt", ".safetensors")}
    assert not kept
    count("runs with NaN ended before it was kept", 1)
