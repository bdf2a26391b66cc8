import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options).item()


def test_ttm_by_hand() -> None:
    """p = (.8, .2) to the power of a half is (2, 1)/3; the student's (.5, .5) isn't softened."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.8, 0.2]]).log()
    expected = 2 / 3 * math.log(2 / 3 / 0.5) + 1 / 3 * math.log(1 / 3 / 0.5)
    assert term("ttm", student, teacher, gamma=0.5) == pytest.approx(expected, rel=1e-5)


def test_ttm_is_the_naive_sum_of_powers() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    total = 0.0
    for q, p in zip(student.softmax(1).tolist(), teacher.softmax(1).tolist(), strict=True):
        powers = [v**0.3 for v in p]
        total += sum(
            v / sum(powers) * math.log(v / sum(powers) / w) for v, w in zip(powers, q, strict=True)
        )
    assert term("ttm", student, teacher, gamma=0.3) == pytest.approx(total / 4)


def test_a_student_of_gamma_times_the_teachers_logits_scores_0() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    assert term("ttm", 0.25 * z + 3, z, gamma=0.25) == pytest.approx(0, abs=1e-12)


def test_gamma_1_is_kd_at_temperature_1() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    expected = term("kd", student, teacher, temperature=1.0)
    assert term("ttm", student, teacher, gamma=1.0) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_wrong_gamma_is_refused_by_name_and_value(value) -> None:
    with pytest.raises(ValueError, match=f"gamma takes a number above 0, not {value}"):
        term("ttm", torch.zeros(1, 3), torch.zeros(1, 3), gamma=value)
