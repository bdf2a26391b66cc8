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


def test_dkd_by_hand() -> None:
    """Three classes at T = 1, label 0: teacher (6, 3, 1)/10, student (1, 1, 1)/3."""
    student, teacher = torch.zeros(1, 3), torch.tensor([[6.0, 3.0, 1.0]]).log()
    target = kl([0.6, 0.4], [1 / 3, 2 / 3])
    others = kl([0.75, 0.25], [0.5, 0.5])
    loss = term("dkd", student, teacher, [0], alpha=2.0, beta=5.0, temperature=1.0)
    assert loss == pytest.approx(2 * target + 5 * others, rel=1e-5)


def test_dkd_is_the_naive_sum() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels, T, total = [0, 4, 2, 2], 3.0, 0.0
    for z_student, z_teacher, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        binary, ranked = [], []
        for z in (z_teacher, z_student):
            powers = [math.exp(v / T) for v in z]
            others = [v for k, v in enumerate(powers) if k != y]
            binary.append([powers[y] / sum(powers), sum(others) / sum(powers)])
            ranked.append([v / sum(others) for v in others])
        total += 1.5 * kl(*binary) + 8 * kl(*ranked)
    loss = term("dkd", student, teacher, labels, alpha=1.5, temperature=T)
    assert loss == pytest.approx(T**2 * total / 4)


def test_alpha_1_and_beta_what_the_teacher_leaves_to_the_others_is_kd() -> None:
    for y in range(5):
        student, teacher = torch.randn(2, 1, 5, dtype=torch.float64)
        rest = 1 - (teacher / 3).softmax(dim=1)[0, y].item()
        loss = term("dkd", student, teacher, [y], alpha=1.0, beta=rest, temperature=3.0)
        assert loss == pytest.approx(term("kd", student, teacher, [y], temperature=3.0))


def test_equal_logits_score_0() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    assert term("dkd", z, z, [0, 1, 2, 3]) == 0


def test_two_classes_have_no_others_to_rank() -> None:
    student, teacher = torch.randn(2, 1, 2, dtype=torch.float64)
    loss = term("dkd", student, teacher, [1], beta=100.0)
    assert loss == pytest.approx(term("kd", student, teacher, [1]))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"alpha": -1.0}, {"beta": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}.* take.* a number .*not .*{value}"):
        term("dkd", torch.zeros(1, 3), torch.zeros(1, 3), [0], **wrong)
