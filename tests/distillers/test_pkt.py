import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def output(h: Tensor) -> Output:
    return Output(torch.empty(len(h), 0), h, [])


def pkt(student: Tensor, teacher: Tensor, **options: float) -> float:
    return DISTILLERS["pkt"](output(student), output(teacher), None, **options).item()


def test_pkt_by_hand() -> None:
    """Two images: alike for the student, P = 1/2; at a right angle for the teacher, 2/3 and 1/3."""
    student, teacher = torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    expected = 2 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)) / 4
    assert pkt(student, teacher) == pytest.approx(expected, rel=1e-4)


def test_pkt_is_the_naive_sum() -> None:
    student, teacher = torch.randn(4, 3).double(), torch.randn(4, 5).double()
    eps, P = 0.01, []
    for h in (student.tolist(), teacher.tolist()):
        units = [[x / (math.sqrt(sum(y * y for y in row)) + eps) for x in row] for row in h]
        K = [
            [(1 + sum(x * y for x, y in zip(a, b, strict=True))) / 2 for b in units] for a in units
        ]
        P.append([x / sum(row) for row in K for x in row])
    terms = [t * math.log((t + eps) / (s + eps)) for s, t in zip(*P, strict=True)]
    assert pkt(student, teacher, eps=eps) == pytest.approx(sum(terms) / 16)


def test_it_is_the_mean_over_images_of_kl_divided_by_their_number() -> None:
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64)
    P = []
    for h in (student, teacher):
        K = (1 + torch.nn.functional.cosine_similarity(h[:, None], h[None], dim=2)) / 2
        P.append((K / K.sum(1, keepdim=True)).log())
    kl = torch.nn.functional.kl_div(*P, log_target=True, reduction="batchmean").item()
    assert pkt(student, teacher) == pytest.approx(kl / 5, rel=1e-4)


def test_a_rotation_and_the_scale_of_each_image_mean_nothing() -> None:
    student = torch.randn(5, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    scale = torch.tensor([1.0, 2.0, 30.0, 0.5, 7.0], dtype=torch.float64)[:, None]
    assert pkt(student, scale * student @ rotation) == pytest.approx(0, abs=1e-7)
    assert pkt(student, student) == 0


def test_an_image_of_zeros_has_a_finite_gradient() -> None:
    student = torch.randn(3, 4)
    student[1] = 0
    student.requires_grad_()
    DISTILLERS["pkt"](output(student), output(torch.zeros(3, 4)), None).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_wrong_option_is_refused_by_name_and_value() -> None:
    with pytest.raises(ValueError, match="eps takes a number above 0, not 0"):
        pkt(torch.zeros(2, 1), torch.zeros(2, 1), eps=0.0)
