import math
import statistics

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

Matrix = list[list[float]]


def term(name: str, student: Tensor, teacher: Tensor, **options: object) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options).item()


def probabilities(z: Tensor, T: float) -> Matrix:
    powers = [[math.exp(v / T) for v in row] for row in z.tolist()]
    return [[v / sum(row) for v in row] for row in powers]


def turned(P: Matrix) -> Matrix:
    return [list(column) for column in zip(*P, strict=True)]


def distance(P: Matrix, Q: Matrix) -> float:
    """||P P^T - Q Q^T||_F^2."""
    total = 0.0
    for i in range(len(P)):
        for j in range(len(P)):
            p = sum(a * b for a, b in zip(P[i], P[j], strict=True))
            q = sum(a * b for a, b in zip(Q[i], Q[j], strict=True))
            total += (p - q) ** 2
    return total


def naive(student: Tensor, teacher: Tensor, T: float) -> tuple[float, float, float]:
    """kd, images and classes of one view."""
    P, Q = probabilities(teacher, T), probabilities(student, T)
    kd = sum(
        p * math.log(p / q) for a, b in zip(P, Q, strict=True) for p, q in zip(a, b, strict=True)
    )
    images, classes = distance(P, Q) / len(P), distance(turned(P), turned(Q)) / len(P[0])
    return T**2 * kd / len(P), images, classes


def test_mlkd_by_hand() -> None:
    """One image a view, T 1: (1, 0) against (.5, .5) up to 1e-9, and then an equal pair.

    Its own products are 1 and .5, so images is .25.  The classes' are (1, 0; 0, 0) and (.25
    everywhere), apart by .75 once and .25 thrice: (.5625 + .1875) / 2.  KL is log 2.
    """
    student, teacher = torch.zeros(2, 2), torch.tensor([[20.0, 0.0], [0.0, 0.0]])
    loss = term("mlkd", student, teacher, temperatures=(1.0,))
    assert loss == pytest.approx(math.log(2) + 0.25 + 0.75 / 2, rel=1e-5)


@pytest.mark.parametrize("classes", [3, 7])
def test_mlkd_is_the_naive_sum_for_more_images_than_classes_and_for_fewer(classes) -> None:
    student, teacher = 3 * torch.randn(2, 10, classes, dtype=torch.float64)
    expected = sum(
        sum(naive(student[v], teacher[v], T))
        for T in (1.0, 4.0)
        for v in (slice(0, 5), slice(5, 10))
    )
    loss = term("mlkd", student, teacher, temperatures=(1.0, 4.0))
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("images", [4, 5])
def test_reference_is_the_naive_sum_of_what_the_authors_code_adds_up(images) -> None:
    student, teacher = 3 * torch.randn(2, 2 * images, 7, dtype=torch.float64)
    plain = student[:images], teacher[:images]
    p = probabilities(plain[1], 1.0)
    sure, summed = [max(row) for row in p], [sum(column) for column in turned(p)]
    i = sum(v <= statistics.median(sure) for v in sure) / images
    c = sum(v <= statistics.median(summed) for v in summed) / 7
    assert (i, c) == ((images + 1) // 2 / images, 4 / 7)
    expected = 0.0
    for T in (2.0, 3.0, 4.0, 5.0, 6.0):
        kd, alike, classes = naive(*plain, T)
        expected += i * (kd + alike) + c * classes
        strong = student[images:], teacher[images:]
        expected += kd if T in (2.0, 6.0) else naive(*strong, T)[0]
    loss = term("mlkd", student, teacher, variant="reference")
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_equal_logits_score_0(variant) -> None:
    z = torch.randn(6, 5, dtype=torch.float64)
    assert term("mlkd", z, z, variant=variant) == pytest.approx(0, abs=1e-12)


def test_a_hot_softmax_leaves_kd_on_both_views() -> None:
    """Probabilities, and so their products, differ by 1/T, and T^2 is kd's alone."""
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    expected = 2 * term("kd", student, teacher, temperature=1e3)
    loss = term("mlkd", student, teacher, temperatures=(1e3,))
    assert loss == pytest.approx(expected, rel=1e-4)


WRONG = [
    ({"temperatures": (4.0, 0.0)}, r"temperatures takes a number above 0, not 0\.0"),
    ({"temperatures": ()}, r"temperatures takes one number above 0 at least, not \(\)"),
    ({"variant": "papers"}, "variant takes paper or reference, not 'papers'. Did you mean paper"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        term("mlkd", torch.zeros(2, 3), torch.zeros(2, 3), **wrong)


def test_an_odd_number_of_rows_isnt_two_views() -> None:
    with pytest.raises(ValueError, match=r"a batch takes two views .* not 3"):
        term("mlkd", torch.zeros(3, 3), torch.zeros(3, 3))
