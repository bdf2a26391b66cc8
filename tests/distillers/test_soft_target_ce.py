import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options)


def test_soft_target_ce_by_hand() -> None:
    """Two classes, T = 2: the teacher's (2 log 3, 0) gives (3, 1)/4, the student's (0, 0) 1/2."""
    loss = term(
        "soft_target_ce",
        torch.tensor([[0.0, 0.0]]),
        torch.tensor([[2 * math.log(3), 0.0]]),
        temperature=2.0,
    )
    torch.testing.assert_close(loss, torch.tensor(4 * math.log(2)))


def test_it_is_the_sum_over_classes_and_the_mean_over_images() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    T, total = 3.0, 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        sums = [sum(math.exp(z / T) for z in row) for row in (z_student, z_teacher)]
        for a, b in zip(z_student, z_teacher, strict=True):
            total -= math.exp(b / T) / sums[1] * math.log(math.exp(a / T) / sums[0])
    loss = term("soft_target_ce", student, teacher, temperature=T).item()
    assert loss == pytest.approx(T**2 * total / 4)


def test_it_is_kd_and_the_teachers_entropy_and_has_kds_gradient() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    student.requires_grad_()
    p = (teacher / 4).softmax(dim=1)
    entropy = -(p * p.log()).sum() / 4
    losses = [term(name, student, teacher) for name in ("soft_target_ce", "kd")]
    torch.testing.assert_close(losses[0], losses[1] + 16 * entropy)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student) for loss in losses))


def test_equal_logits_score_the_least() -> None:
    teacher = torch.randn(4, 5, dtype=torch.float64)
    least = term("soft_target_ce", teacher, teacher)
    assert all(
        term("soft_target_ce", teacher + step * torch.randn(4, 5), teacher) > least
        for step in (0.01, 1, 10)
    )


def test_a_temperature_not_above_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature takes a number above 0, not -1\.0"):
        term("soft_target_ce", torch.zeros(1, 2), torch.zeros(1, 2), temperature=-1.0)
