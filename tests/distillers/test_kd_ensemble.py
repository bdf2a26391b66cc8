import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

ENSEMBLES = ("probabilities", "logits")


def output(logits: Tensor) -> Output:
    return Output(logits, torch.empty(len(logits), 0), [])


def kd_ensemble(student: Tensor, *teachers: Tensor, **options: float | str) -> float:
    handed = tuple(output(z) for z in teachers)
    return DISTILLERS["kd_ensemble"](output(student), handed, None, **options).item()


def test_kd_ensemble_by_hand() -> None:
    """Teachers (3, 1)/4 and (1, 1)/2: mean (5, 3)/8, of logits sqrt 3 to 1; the student 1/2."""
    teachers = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    root = math.sqrt(3)
    for ensemble, p in zip(ENSEMBLES, (5 / 8, root / (root + 1)), strict=True):
        loss = kd_ensemble(torch.zeros(1, 2), *teachers, temperature=1.0, ensemble=ensemble)
        expected = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
        assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_kd_ensemble_is_the_naive_sum(ensemble) -> None:
    student, *teachers = torch.randn(4, 2, 5, dtype=torch.float64)
    T, total = 3.0, 0.0
    for b in range(2):
        rows = [z[b].tolist() for z in (student, *teachers)]
        powers = [[math.exp(v / T) for v in row] for row in rows]
        own, *given = ([v / sum(row) for v in row] for row in powers)
        if ensemble == "probabilities":
            mean = [sum(column) / 3 for column in zip(*given, strict=True)]
        else:  # the geometric mean, normalised
            mean = [math.prod(column) ** (1 / 3) for column in zip(*given, strict=True)]
            mean = [v / sum(mean) for v in mean]
        total += sum(p * math.log(p / q) for p, q in zip(mean, own, strict=True))
    loss = kd_ensemble(student, *teachers, temperature=T, ensemble=ensemble)
    assert loss == pytest.approx(T**2 * total / 2)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_one_teacher_and_equal_teachers_are_kd(ensemble) -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    kd = DISTILLERS["kd"](output(student), output(teacher), None).item()
    alone = DISTILLERS["kd_ensemble"](output(student), output(teacher), None, ensemble=ensemble)
    assert alone.item() == pytest.approx(kd)
    for count in (1, 3):
        assert kd_ensemble(student, *[teacher] * count, ensemble=ensemble) == pytest.approx(kd)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_the_order_of_the_teachers_means_nothing(ensemble) -> None:
    student, *teachers = torch.randn(4, 3, 5, dtype=torch.float64)
    loss = kd_ensemble(student, *teachers, ensemble=ensemble)
    assert kd_ensemble(student, *reversed(teachers), ensemble=ensemble) == pytest.approx(loss)


def test_a_student_with_the_mean_probabilities_scores_0() -> None:
    teachers = torch.randn(3, 4, 5, dtype=torch.float64)
    arithmetic = 4 * (teachers / 4).softmax(dim=2).mean(dim=0).log()
    assert kd_ensemble(arithmetic, *teachers) == pytest.approx(0, abs=1e-12)
    geometric = teachers.mean(dim=0)
    assert kd_ensemble(geometric, *teachers, ensemble="logits") == pytest.approx(0, abs=1e-12)
    assert kd_ensemble(geometric, *teachers) > 0


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3\) and the teacher's \(1, 2\)"):
        kd_ensemble(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("temperature", 0.0, "temperature takes a number above 0, not 0.0"),
        ("ensemble", "logit", "ensemble takes probabilities or logits, not 'logit'"),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_value(option, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        kd_ensemble(torch.zeros(1, 2), torch.zeros(1, 2), **{option: wrong})
