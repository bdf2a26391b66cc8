import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options).item()


def test_wttm_by_hand() -> None:
    """p = (.8, .2): its roots sum to 3 sqrt(.2) and are (2, 1)/3 of that; the student is even."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.8, 0.2]]).log()
    kl = 2 / 3 * math.log(2 / 3 / 0.5) + 1 / 3 * math.log(1 / 3 / 0.5)
    expected = 3 * math.sqrt(0.2) * kl
    assert term("wttm", student, teacher, gamma=0.5) == pytest.approx(expected, rel=1e-5)


def test_wttm_is_the_naive_sum_weighted_image_by_image() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    total = 0.0
    for q, p in zip(student.softmax(1).tolist(), teacher.softmax(1).tolist(), strict=True):
        powers = [v**0.3 for v in p]
        total += sum(
            v * math.log(v / sum(powers) / w) for v, w in zip(powers, q, strict=True)
        )  # a power is U times its share
    assert term("wttm", student, teacher, gamma=0.3) == pytest.approx(total / 4)


def test_an_even_teacher_weighs_as_much_as_the_docstring_says() -> None:
    student, teacher = torch.randn(1, 5, dtype=torch.float64), torch.zeros(1, 5).double()
    ratio = term("wttm", student, teacher, gamma=0.2) / term("ttm", student, teacher, gamma=0.2)
    assert ratio == pytest.approx(5**0.8)


def test_a_sure_teacher_weighs_1() -> None:
    student = torch.randn(1, 5, dtype=torch.float64)
    teacher = 1e3 * torch.eye(5, dtype=torch.float64)[:1]
    expected = term("ttm", student, teacher, gamma=0.2)
    assert term("wttm", student, teacher, gamma=0.2) == pytest.approx(expected)


def test_gamma_1_is_ttm() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    expected = term("ttm", student, teacher, gamma=1.0)
    assert term("wttm", student, teacher, gamma=1.0) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_wrong_gamma_is_refused_by_name_and_value(value) -> None:
    with pytest.raises(ValueError, match=f"gamma takes a number above 0, not {value}"):
        term("wttm", torch.zeros(1, 3), torch.zeros(1, 3), gamma=value)
