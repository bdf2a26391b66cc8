import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, target: list[int], **options: float) -> float:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    batch = Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)
    return DISTILLERS[name](*outputs, batch, **options).item()


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_rld_by_hand() -> None:
    """The teacher (.5, .2, .2, .1) is wrong: the label is 1, and only class 3 is below it.

    It is .5 sure, of its own class; so the student is to be .5 sure of the label, and is .25.
    One class below leaves nothing to rank.  For the label 0, three are: 2, 2 and 1 of 5, which
    the even student has a third of each.
    """
    student, teacher = torch.zeros(1, 4), torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    sure = kl([0.5, 0.5], [0.25, 0.75])
    ranked = kl([0.4, 0.4, 0.2], [1 / 3] * 3)
    options = {"alpha": 3.0, "beta": 5.0, "temperature": 1.0}
    assert term("rld", student, teacher, [1], **options) == pytest.approx(3 * sure, rel=1e-5)
    loss = term("rld", student, teacher, [0], **options)
    assert loss == pytest.approx(3 * sure + 5 * ranked, rel=1e-5)


def test_rld_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    labels, T, T_c, total = [0, 4, 2, 2, 1, 3], 3.0, 2.0, 0.0
    for z_student, z_teacher, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        sure = []
        for z, k in ((z_teacher, z_teacher.index(max(z_teacher))), (z_student, y)):
            p = math.exp(z[k] / T_c) / sum(math.exp(v / T_c) for v in z)
            sure.append([p, 1 - p])
        below = [k for k in range(5) if z_teacher[k] < z_teacher[y]]
        ranked = []
        for z in (z_teacher, z_student):
            powers = [math.exp(z[k] / T) for k in below]
            ranked.append([v / sum(powers) for v in powers])
        total += 1.5 * T_c**2 * kl(*sure) + 8 * T**2 * kl(*ranked)
    options = {"alpha": 1.5, "temperature": T, "confidence_temperature": T_c}
    assert term("rld", student, teacher, labels, **options) == pytest.approx(total / 6)


def test_it_is_dkd_where_the_teacher_is_right() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels = teacher.argmax(dim=1).tolist()
    options = {"beta": 6.0, "temperature": 3.0}
    loss = term("rld", student, teacher, labels, confidence_temperature=3.0, **options)
    assert loss == pytest.approx(term("dkd", student, teacher, labels, **options))


def test_equal_logits_score_0_only_where_they_are_right() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    assert term("rld", z, z, z.argmax(dim=1).tolist()) == pytest.approx(0, abs=1e-12)
    assert term("rld", z, z, z.argmin(dim=1).tolist()) > 0.1


def test_classes_above_the_label_arent_ranked() -> None:
    teacher = torch.tensor([[9.0, 5.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    student, other = torch.randn(2, 1, 5, dtype=torch.float64)
    other[:, 2:] = student[:, 2:]
    losses = [term("rld", z, teacher, [2], alpha=0.0) for z in (student, other)]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] > 0


WRONG = [
    {"temperature": 0.0},
    {"confidence_temperature": -1.0},
    {"alpha": -1.0},
    {"beta": math.nan},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*not {value}"):
        term("rld", torch.zeros(1, 3), torch.zeros(1, 3), [0], **wrong)
