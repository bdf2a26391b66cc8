import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS


def tfkd(student: Tensor, target: list[int], **options: float | str) -> float:
    output = Output(student, torch.empty(len(student), 0), [])
    batch = Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)
    return DISTILLERS["tfkd"](output, None, batch, **options).item()


@pytest.mark.parametrize(("variant", "scale"), [("paper", 4), ("code", 1)])
def test_tfkd_by_hand(variant, scale) -> None:
    """d = (1, 0) at T = 2 gives p = sqrt(e)/(sqrt(e) + 1); the student's (0, 0) 1/2 at any T."""
    p = math.sqrt(math.e) / (math.sqrt(math.e) + 1)
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    loss = tfkd(torch.zeros(1, 2), [0], temperature=2.0, correct=1.0, variant=variant)
    assert loss == pytest.approx(scale * kl, rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_tfkd_is_the_naive_sum(variant) -> None:
    student, labels = torch.randn(4, 5, dtype=torch.float64), [0, 4, 2, 2]
    T, total = 3.0, 0.0
    T_student = T if variant == "paper" else 1.0
    for z, y in zip(student.tolist(), labels, strict=True):
        given = [math.exp((0.6 if k == y else 0.1) / T) for k in range(5)]
        own = [math.exp(v / T_student) for v in z]
        for a, b in zip(own, given, strict=True):
            p, q = b / sum(given), a / sum(own)
            total += T_student**2 * p * math.log(p / q)
    loss = tfkd(student, labels, temperature=T, correct=0.6, variant=variant)
    assert loss == pytest.approx(total / 4)


def test_the_written_distribution_and_a_shift_of_it_score_0() -> None:
    d = torch.full((2, 5), 0.1 / 4, dtype=torch.float64)
    d[0, 3] = d[1, 0] = 0.9
    assert tfkd(d + 7, [3, 0]) == pytest.approx(0, abs=1e-12)
    assert tfkd(d / 20 + 7, [3, 0], variant="code") == pytest.approx(0, abs=1e-12)
    assert tfkd(d / 20, [3, 0]) > 0


def test_it_is_kd_from_a_teacher_with_these_logits() -> None:
    student = torch.randn(1, 5, dtype=torch.float64)
    d = torch.tensor([[0.02, 0.92, 0.02, 0.02, 0.02]], dtype=torch.float64)
    outputs = (Output(z, torch.empty(1, 0), []) for z in (student, d))
    kd = DISTILLERS["kd"](*outputs, None, temperature=20.0).item()
    assert tfkd(student, [1], correct=0.92) == pytest.approx(kd)


def test_the_variants_are_one_at_temperature_1() -> None:
    student = torch.randn(3, 5, dtype=torch.float64)
    paper, code = (
        tfkd(student, [0, 1, 2], temperature=1.0, variant=variant) for variant in ("paper", "code")
    )
    assert paper == pytest.approx(code)


def test_it_needs_no_teacher() -> None:
    assert DISTILLERS.does_without("tfkd", "teacher")


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("temperature", 0.0, "temperature takes a number above 0, not 0.0"),
        ("correct", 1.1, "correct takes a number from 0 to 1, not 1.1"),
        ("variant", "codes", "variant takes paper or code, not 'codes'. Did you mean code?"),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_value(option, wrong, message) -> None:
    with pytest.raises(ValueError) as error:
        tfkd(torch.zeros(1, 3), [0], **{option: wrong})
    assert message in str(error.value)
