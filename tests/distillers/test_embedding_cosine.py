import math

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

EmbeddingCosine = DISTILLERS["embedding_cosine"]


def outputs(*embeddings: Tensor) -> list[Output]:
    return [Output(torch.empty(0), h, []) for h in embeddings]


def test_embedding_cosine_by_hand(backbone) -> None:
    """Angles of 45 degrees, then of 180."""
    term = EmbeddingCosine(backbone((2,)), backbone((2,)))
    student = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    teacher = torch.tensor([[2.0, 2.0], [0.0, -1.0]])
    loss = term(*outputs(student, teacher), None).item()
    assert loss == pytest.approx((1 - math.sqrt(0.5) + 2) / 2)


def test_it_is_the_naive_mean_through_a_linear_map(backbone) -> None:
    term = EmbeddingCosine(backbone((3,)), backbone((4,))).double()
    student, teacher = (torch.randn(2, n, dtype=torch.float64) for n in (3, 4))
    rows, total = term.P.weight.tolist(), 0.0
    for h, t in zip(student.tolist(), teacher.tolist(), strict=True):
        s = [sum(w * v for w, v in zip(row, h, strict=True)) for row in rows]
        dot = sum(a * b for a, b in zip(s, t, strict=True))
        total += 1 - dot / math.hypot(*s) / math.hypot(*t)
    assert term(*outputs(student, teacher), None).item() == pytest.approx(total / 2)


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4)])
def test_lengths_mean_nothing(backbone, sizes) -> None:
    term = EmbeddingCosine(*(backbone((n,)) for n in sizes)).double()
    student, teacher = (torch.randn(2, n, dtype=torch.float64) for n in sizes)
    loss = term(*outputs(student, teacher), None)
    torch.testing.assert_close(term(*outputs(5 * student, teacher / 7), None), loss)


def test_embeddings_of_one_direction_score_0(backbone) -> None:
    h = torch.randn(4, 3, dtype=torch.float64)
    term = EmbeddingCosine(backbone((3,)), backbone((3,)))
    assert term(*outputs(2 * h, h), None).item() == pytest.approx(0, abs=1e-12)


def test_only_unequal_sizes_learn_something(backbone) -> None:
    assert isinstance(EmbeddingCosine(backbone((3,)), backbone((3,))).P, nn.Identity)
    learned = EmbeddingCosine(backbone((3,)), backbone((4,))).parameters()
    assert [tuple(p.shape) for p in learned] == [(4, 3)]


def test_dead_embeddings_have_a_finite_gradient(backbone) -> None:
    h = torch.zeros(2, 3, requires_grad=True)
    EmbeddingCosine(backbone((3,)), backbone((3,)))(*outputs(h, torch.randn(2, 3)), None).backward()
    assert h.grad is not None and h.grad.isfinite().all()
