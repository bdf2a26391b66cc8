import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options).item()


def test_abkd_by_hand() -> None:
    """Exponents of a half each: 4 (1/2 p + 1/2 q - sqrt(p q)), so 4 - 4 sum sqrt(p q).

    p = (.8, .2) and q = (.2, .8): the roots are .4 and .4.
    """
    student, teacher = torch.tensor([[0.2, 0.8]]).log(), torch.tensor([[0.8, 0.2]]).log()
    loss = term("abkd", student, teacher, alpha=0.5, beta=0.5, temperature=1.0)
    assert loss == pytest.approx(4 - 4 * 0.8, rel=1e-5)


def test_abkd_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    a, b, total = 0.8, 0.3, 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        P, Q = (
            [math.exp(v / 3) / sum(math.exp(w / 3) for w in z) for v in z]
            for z in (z_teacher, z_student)
        )
        for p, q in zip(P, Q, strict=True):
            own = a / (a + b) * p ** (a + b) + b / (a + b) * q ** (a + b)
            total -= (p**a * q**b - own) / (a * b)
    loss = term("abkd", student, teacher, alpha=a, beta=b, temperature=3.0)
    assert loss == pytest.approx(total / 4)


def test_alpha_1_and_beta_0_is_kd_without_its_factor() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    expected = term("kd", student, teacher, temperature=3.0)
    loss = term("abkd", student, teacher, alpha=1.0, beta=0.0, temperature=3.0)
    assert 9 * loss == pytest.approx(expected)


def test_alpha_and_beta_change_places_with_the_networks() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    for alpha, beta in ((1.0, 0.0), (0.7, 0.0), (0.8, 0.3)):
        loss = term("abkd", student, teacher, alpha=alpha, beta=beta)
        assert loss == pytest.approx(term("abkd", teacher, student, alpha=beta, beta=alpha))


def test_1_and_1_is_half_the_squared_distance() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    squares = (student.softmax(dim=1) - teacher.softmax(dim=1)).square().sum().item()
    loss = term("abkd", student, teacher, alpha=1.0, beta=1.0, temperature=1.0)
    assert loss == pytest.approx(squares / 2 / 4)


@pytest.mark.parametrize("own", ["alpha", "beta"])
def test_an_exponent_of_0_is_the_limit(own) -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    other = {"alpha": "beta", "beta": "alpha"}[own]
    near = term("abkd", student, teacher, **{own: 0.7, other: 1e-6})
    assert term("abkd", student, teacher, **{own: 0.7, other: 0.0}) == pytest.approx(near, rel=1e-4)


@pytest.mark.parametrize("exponents", [(0.8, 0.3), (1.0, 0.0), (0.0, 0.5), (1.2, 1.5)])
def test_equal_logits_score_0_and_others_more(exponents) -> None:
    z, other = torch.randn(2, 4, 5, dtype=torch.float64)
    options = dict(zip(("alpha", "beta"), exponents, strict=True))
    assert term("abkd", z, z, **options) == pytest.approx(0, abs=1e-12)
    assert term("abkd", other, z, **options) > 1e-3


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"alpha": -1.0}, {"beta": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*not {value}"):
        term("abkd", torch.zeros(1, 3), torch.zeros(1, 3), **wrong)


def test_two_exponents_of_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha and beta take numbers .* not 0 and 0"):
        term("abkd", torch.zeros(1, 3), torch.zeros(1, 3), alpha=0.0, beta=0.0)
