import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None, **options)


def test_dml_by_hand() -> None:
    """The peer's (3, 1)/4 against (1, 1)/2, and with the roles exchanged."""
    z, peer = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    expected = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    torch.testing.assert_close(term("dml", z, peer), torch.tensor(expected))
    exchanged = 1 / 2 * math.log(2 / 3) + 1 / 2 * math.log(2)
    torch.testing.assert_close(term("dml", peer, z), torch.tensor(exchanged))


def test_dml_is_the_naive_sum_and_kd_at_temperature_1() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    total = 0.0
    for z_student, z_teacher in zip(student.tolist(), teacher.tolist(), strict=True):
        sums = [sum(math.exp(z) for z in row) for row in (z_student, z_teacher)]
        for a, b in zip(z_student, z_teacher, strict=True):
            q, p = math.exp(a) / sums[0], math.exp(b) / sums[1]
            total += p * math.log(p / q)
    loss = term("dml", student, teacher)
    assert loss.item() == pytest.approx(total / 4)
    torch.testing.assert_close(loss, term("kd", student, teacher, temperature=1.0))


def test_two_peers_that_learn_get_each_only_their_own_terms_gradient() -> None:
    one, two = (z.requires_grad_() for z in torch.randn(2, 4, 5, dtype=torch.float64))
    (term("dml", one, two) + term("dml", two, one)).backward()
    p, q = (z.detach().softmax(dim=1) for z in (one, two))
    torch.testing.assert_close(one.grad, (p - q) / 4)
    torch.testing.assert_close(two.grad, (q - p) / 4)


def test_equal_logits_and_a_shift_of_them_score_0() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    assert term("dml", z, z).item() == 0
    assert term("dml", z, z + 3).item() == pytest.approx(0, abs=1e-12)


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and the teacher's \(1, 3\)"):
        term("dml", torch.zeros(1, 2), torch.zeros(1, 3))
