import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def kd(student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS["kd"](*outputs, None, **options)


def test_kd_by_hand() -> None:
    """Two classes, T = 2: the teacher's (2, 0) gives p = e/(e + 1), the student's (0, 0) 1/2."""
    p = math.e / (math.e + 1)
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    loss = kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
    torch.testing.assert_close(loss, torch.tensor(4 * kl))


def test_kd_is_the_sum_over_classes_and_the_mean_over_images() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    T, total = 3.0, 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        sums = [sum(math.exp(z / T) for z in row) for row in (z_student, z_teacher)]
        for a, b in zip(z_student, z_teacher, strict=True):
            p_student, p_teacher = math.exp(a / T) / sums[0], math.exp(b / T) / sums[1]
            total += p_teacher * math.log(p_teacher / p_student)
    assert kd(student, teacher, temperature=T).item() == pytest.approx(T**2 * total / 4)


def test_equal_logits_and_a_shift_of_them_score_0() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    assert kd(z, z).item() == 0
    assert kd(z, z + 3).item() == pytest.approx(0, abs=1e-12)


def test_kd_tends_to_the_squared_distance_of_centred_logits_over_2_K_as_T_grows() -> None:
    """To second order KL is sum_k p_k (d_k - mean d)^2 / 2 with d = (z_t - z_s) / T and p = 1/K."""
    K = 5
    student, teacher = torch.randn(2, 4, K, dtype=torch.float64)
    limit = 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        means = sum(z_student) / K, sum(z_teacher) / K
        for a, b in zip(z_student, z_teacher, strict=True):
            limit += ((b - means[1]) - (a - means[0])) ** 2 / (2 * K) / 4
    assert kd(student, teacher, temperature=1e4).item() == pytest.approx(limit, rel=1e-3)
    assert kd(student, teacher, temperature=1e2).item() == pytest.approx(limit, rel=1e-1)


def test_standardize_by_hand() -> None:
    """(2, 0) has mean 1 and unbiased std sqrt 2; so has (0, 2), the other way round."""
    z = 1 / math.sqrt(2)
    p = math.exp(z) / (math.exp(z) + math.exp(-z))
    loss = kd(
        torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]]), temperature=1.0, standardize=True
    )
    expected = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_standardize_makes_a_scale_and_a_shift_of_either_network_mean_nothing() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    loss = kd(student, teacher, standardize=True).item()
    changed = kd(3 * student + 7, teacher / 5 - 2, standardize=True).item()
    assert changed == pytest.approx(loss, rel=1e-5)  # but for the 1e-7 beside the std
    assert kd(2 * teacher + 1, teacher, standardize=True).item() == pytest.approx(0, abs=1e-12)


def test_standardize_has_a_finite_gradient_where_all_logits_are_equal() -> None:
    student = torch.zeros(4, 5, requires_grad=True)
    kd(student, torch.randn(4, 5), standardize=True).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_a_temperature_not_above_0_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=f"temperature takes a number above 0, not {wrong}"):
        kd(torch.zeros(1, 2), torch.zeros(1, 2), temperature=wrong)
