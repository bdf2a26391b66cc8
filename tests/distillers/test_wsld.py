import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS


def term(
    name: str, student: Tensor, teacher: Tensor, target: list[int], **options: float
) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    batch = Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)
    return DISTILLERS[name](*outputs, batch, **options)


def test_wsld_by_hand() -> None:
    """Label 0, T = 1: teacher (1, 1)/2, student (1, 3)/4: its CE is twice the teacher's."""
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    soft = (math.log(4) + math.log(4 / 3)) / 2
    loss = term("wsld", student, teacher, [0], temperature=1.0).item()
    assert loss == pytest.approx((1 - math.exp(-2)) * soft, rel=1e-5)


def test_wsld_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels, T, total = [0, 4, 2, 2], 3.0, 0.0
    for z_student, z_teacher, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        own, given = (math.log(sum(map(math.exp, z))) - z[y] for z in (z_student, z_teacher))
        weight = 1 - math.exp(-own / (given + 1e-7))
        sums = [sum(math.exp(v / T) for v in z) for z in (z_student, z_teacher)]
        for a, b in zip(z_student, z_teacher, strict=True):
            total -= weight * math.exp(b / T) / sums[1] * (a / T - math.log(sums[0]))
    loss = term("wsld", student, teacher, labels, temperature=T).item()
    assert loss == pytest.approx(T**2 * total / 4)


def test_equal_logits_weigh_1_less_1_through_e() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    expected = (1 - 1 / math.e) * term("soft_target_ce", z, z, [0, 1, 2, 3], temperature=2.0)
    torch.testing.assert_close(term("wsld", z, z, [0, 1, 2, 3]), expected, rtol=1e-5, atol=0)


def test_an_images_gradient_is_its_weight_times_that_of_kd() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    student.requires_grad_()
    labels = [0, 1, 2, 3]
    own, given = (-z.log_softmax(dim=1)[range(4), labels] for z in (student.detach(), teacher))
    weight = 1 - (-own / (given + 1e-7)).exp()
    wsld, kd = (
        torch.autograd.grad(term(name, student, teacher, labels, temperature=2.0), student)[0]
        for name in ("wsld", "kd")
    )
    torch.testing.assert_close(wsld, weight[:, None] * kd)


def test_a_student_that_is_sure_of_the_label_learns_nothing_from_a_teacher_that_is_not() -> None:
    student = torch.tensor([[1e3, 0.0]], requires_grad=True)
    loss = term("wsld", student, torch.zeros(1, 2), [0])
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None and student.grad.abs().sum() == 0


def test_a_temperature_not_above_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature takes a number above 0, not 0\.0"):
        term("wsld", torch.zeros(1, 2), torch.zeros(1, 2), [0], temperature=0.0)
