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


def test_nkd_by_hand() -> None:
    """Three classes, label 0: teacher (6, 3, 1)/10, student (1, 1, 1)/3; others (3, 1)/4, 1/2."""
    student, teacher = torch.zeros(1, 3), torch.tensor([[6.0, 3.0, 1.0]]).log()
    loss = term("nkd", student, teacher, [0], gamma=2.0)
    assert loss == pytest.approx(0.6 * math.log(3) + 2 * math.log(2), rel=1e-5)


def test_nkd_is_the_naive_sum_and_only_its_others_have_a_temperature() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels, T, total = [0, 4, 2, 2], 3.0, 0.0
    for z_student, z_teacher, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        own, given = (math.exp(z[y]) / sum(math.exp(v) for v in z) for z in (z_student, z_teacher))
        total -= given * math.log(own)
        others = []
        for z in (z_student, z_teacher):
            powers = [math.exp(v / T) for k, v in enumerate(z) if k != y]
            others.append([v / sum(powers) for v in powers])
        total -= 1.5 * T**2 * sum(t * math.log(s) for s, t in zip(*others, strict=True))
    assert term("nkd", student, teacher, labels, temperature=T) == pytest.approx(total / 4)


def test_its_others_are_those_of_dkd_and_their_entropy() -> None:
    student, teacher = torch.randn(2, 1, 5, dtype=torch.float64)
    q = (teacher[:, 1:] / 2).softmax(dim=1)
    entropy = -(q * q.log()).sum().item()
    alone = term("nkd", student, teacher, [0], gamma=0.0, temperature=2.0)
    others = term("nkd", student, teacher, [0], gamma=3.0, temperature=2.0) - alone
    ranked = term("dkd", student, teacher, [0], alpha=0.0, beta=3.0, temperature=2.0)
    assert others == pytest.approx(ranked + 3 * 4 * entropy)


def test_two_classes_have_no_others_to_rank() -> None:
    student, teacher = torch.randn(2, 1, 2, dtype=torch.float64)
    loss = term("nkd", student, teacher, [1], gamma=100.0)
    p, q = (z.softmax(dim=1)[0, 1].item() for z in (teacher, student))
    assert loss == pytest.approx(-p * math.log(q))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"gamma": -1.0}, {"gamma": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*not {value}"):
        term("nkd", torch.zeros(1, 3), torch.zeros(1, 3), [0], **wrong)
