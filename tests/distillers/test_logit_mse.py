import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options)


def test_logit_mse_by_hand() -> None:
    """Two images of three classes, that differ by 1, 2 and 3 in one place each."""
    student = torch.zeros(2, 3)
    teacher = torch.tensor([[1.0, 0.0, -2.0], [0.0, 3.0, 0.0]])
    assert term("logit_mse", student, teacher).item() == pytest.approx((1 + 4 + 9) / 6)


def test_it_is_the_naive_mean_and_0_for_equal_logits_only() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    total = 0.0
    for row, other in zip(student.tolist(), teacher.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(row, other, strict=True))
    assert term("logit_mse", student, teacher).item() == pytest.approx(total / 20)
    assert term("logit_mse", teacher, teacher).item() == 0
    assert term("logit_mse", teacher + 3, teacher).item() == pytest.approx(9)


def test_half_of_it_on_centred_logits_is_the_limit_of_kd_for_a_high_temperature() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    centred = (z - z.mean(dim=1, keepdim=True) for z in (student, teacher))
    limit = term("logit_mse", *centred) / 2
    far, near = (term("kd", student, teacher, temperature=T) - limit for T in (1e2, 1e4))
    assert abs(near) < 1e-4 * limit
    assert abs(near) < abs(far) / 10


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and the teacher's \(1, 3\)"):
        term("logit_mse", torch.zeros(1, 2), torch.zeros(1, 3))
