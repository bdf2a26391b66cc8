import math
import statistics

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: object) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options).item()


def test_normkd_by_hand() -> None:
    """Of two logits a apart the std is a / sqrt(2), so 4 apart is 1 apart at T = 2 sqrt(2).

    The student's are turned round: p = (e, 1)/(e + 1) against (1, e)/(e + 1).  s_teacher is 4.
    """
    student, teacher = torch.tensor([[0.0, 9.0]]), torch.tensor([[4.0, 0.0]])
    T = math.sqrt(2)
    p = math.e / (math.e + 1)
    kl = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert term("normkd", student, teacher, temperature=T) == pytest.approx(4**2 * kl, rel=1e-5)


def test_normkd_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    T, total = 3.0, 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        shares = []
        for z in (z_teacher, z_student):
            powers = [math.exp(v / (T * statistics.stdev(z))) for v in z]
            shares.append([v / sum(powers) for v in powers])
        kl = sum(p * math.log(p / q) for p, q in zip(*shares, strict=True))
        total += (T * statistics.stdev(z_teacher)) ** 2 * kl
    loss = term("normkd", student, teacher, temperature=T)
    assert loss == pytest.approx(total / 4, rel=1e-5)  # theirs is 1e-7 beside the std


def test_the_students_shift_and_scale_mean_nothing() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    expected = term("normkd", student, teacher)
    assert term("normkd", 7 * student + 3, teacher) == pytest.approx(expected, rel=1e-5)
    assert term("normkd", 7 * teacher + 3, teacher) == pytest.approx(0, abs=1e-10)


def test_it_is_standardised_kd_for_teachers_of_std_1() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    teacher = teacher / teacher.std(dim=1, keepdim=True)
    expected = term("kd", student, teacher, temperature=3.0, standardize=True)
    loss = term("normkd", student, teacher, temperature=3.0)
    assert loss == pytest.approx(expected, rel=1e-5)
    loss = term("normkd", student, 2 * teacher, temperature=3.0)
    assert loss == pytest.approx(4 * expected, rel=1e-5)


def test_logits_that_are_all_equal_give_a_finite_gradient() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    outputs = (Output(v, torch.empty(2, 0), []) for v in (z, torch.randn(2, 3)))
    DISTILLERS["normkd"](*outputs, None).backward()
    assert z.grad.isfinite().all()


def test_a_wrong_temperature_is_refused_by_name_and_value() -> None:
    with pytest.raises(ValueError, match=r"temperature takes a number above 0, not 0\.0"):
        term("normkd", torch.zeros(1, 3), torch.zeros(1, 3), temperature=0.0)
