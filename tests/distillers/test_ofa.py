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


def test_ofa_by_hand() -> None:
    """Label 0, eps = 2: teacher (1, 1)/2 weighs (1.5^2 - 1, 0.5^2); student (1, 3)/4."""
    student = torch.tensor([[0.0, math.log(3)]])
    loss = term("ofa", student, torch.zeros(1, 2), [0], eps=2.0).item()
    assert loss == pytest.approx(1.25 * math.log(4) + 0.25 * math.log(4 / 3), rel=1e-5)


def test_ofa_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels, T, eps, total = [0, 4, 2, 2], 3.0, 1.4, 0.0
    for z_student, z_teacher, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        sums = [sum(math.exp(v / T) for v in z) for z in (z_student, z_teacher)]
        for k in range(5):
            label = 1.0 if k == y else 0.0
            weight = (math.exp(z_teacher[k] / T) / sums[1] + label) ** eps - label
            total -= weight * math.log(math.exp(z_student[k] / T) / sums[0])
    loss = term("ofa", student, teacher, labels, eps=eps, temperature=T).item()
    assert loss == pytest.approx(total / 4)


def test_eps_1_is_soft_target_ce_without_the_squared_temperature() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    ofa, soft = (
        term(name, student, teacher, [0, 1, 2, 3], temperature=2.0)
        for name in ("ofa", "soft_target_ce")
    )
    torch.testing.assert_close(4 * ofa, soft)


def test_a_larger_eps_moves_the_students_optimum_towards_the_label() -> None:
    """The gradient at equal logits is p_student times the sum of weights, less the weights."""
    z = torch.randn(1, 5, dtype=torch.float64)
    slopes = []
    for eps in (0.5, 1.0, 2.0):
        student = z.clone().requires_grad_()
        term("ofa", student, z, [3], eps=eps).backward()
        assert student.grad is not None
        slopes.append(student.grad[0, 3].item())
    assert slopes[0] > 0 > slopes[2]
    assert slopes[1] == pytest.approx(0, abs=1e-12)


def test_with_cross_entropy_the_labels_factor_is_1_and_p_to_eps() -> None:
    student, teacher = torch.randn(2, 1, 2, dtype=torch.float64)
    total = term("ofa", student, teacher, [0], eps=1.5) + term(
        "cross_entropy", student, teacher, [0]
    )
    p, q = teacher.softmax(dim=1)[0], student.softmax(dim=1)[0]
    expected = -((1 + p[0]) ** 1.5) * q[0].log() - p[1] ** 1.5 * q[1].log()
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"eps": 0.0}, {"eps": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number above 0, not {value}"):
        term("ofa", torch.zeros(1, 3), torch.zeros(1, 3), [0], **wrong)
