import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(student: Tensor, teacher: Tensor, **options: float) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS["dist"](*outputs, None, **options).item()


def correlation(x: list[float], y: list[float]) -> float:
    x, y = ([a - sum(v) / len(v) for a in v] for v in (x, y))
    product = sum(a * b for a, b in zip(x, y, strict=True))
    return product / (math.hypot(*x) * math.hypot(*y))


def test_dist_by_hand() -> None:
    """Two images of two classes: rows of two numbers are correlated by 1 or by -1.

    The student's second row is turned round.  Its first column is .8, .7 where the teacher's is
    .8, .4: both fall; so does the second rise with the teacher's.
    """
    student = torch.tensor([[0.8, 0.2], [0.7, 0.3]]).log()
    teacher = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()
    assert term(student, teacher, beta=3.0, gamma=5.0) == pytest.approx(3 * 1, rel=1e-5)
    turned = torch.tensor([[0.8, 0.2], [0.9, 0.1]]).log()
    assert term(turned, teacher, beta=3.0, gamma=5.0) == pytest.approx(3 * 1 + 5 * 2, rel=1e-5)


def test_dist_is_the_naive_mean() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    T = 3.0
    Y_student, Y_teacher = (
        [[math.exp(v / T) / sum(math.exp(w / T) for w in z) for v in z] for z in logits.tolist()]
        for logits in (student, teacher)
    )
    rows = sum(correlation(*pair) for pair in zip(Y_student, Y_teacher, strict=True)) / 4
    columns = sum(
        correlation([r[k] for r in Y_student], [r[k] for r in Y_teacher]) for k in range(5)
    )
    expected = T**2 * (1.5 * (1 - rows) + 2 * (1 - columns / 5))
    loss = term(student, teacher, beta=1.5, gamma=2.0, temperature=T)
    assert loss == pytest.approx(expected, rel=1e-5)  # theirs is 1e-8 beside a product of norms


def test_probabilities_nearer_to_even_by_one_scale_score_0() -> None:
    teacher = torch.randn(4, 5, dtype=torch.float64).softmax(dim=1)
    student = 0.2 + 0.5 * (teacher - 0.2)
    assert term(student.log(), teacher.log()) == pytest.approx(0, abs=1e-5)


def test_a_class_of_one_probability_over_the_batch_counts_as_uncorrelated() -> None:
    even = torch.zeros(3, 4, dtype=torch.float64)
    loss = term(even, torch.randn(3, 4, dtype=torch.float64), beta=2.0, gamma=3.0, temperature=2.0)
    assert loss == pytest.approx(4 * 5)


def test_a_batch_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch takes 2 at least, not 1"):
        term(torch.zeros(1, 3), torch.zeros(1, 3))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"beta": -1.0}, {"gamma": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*not {value}"):
        term(torch.zeros(2, 3), torch.zeros(2, 3), **wrong)
