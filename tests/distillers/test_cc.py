import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

CC = DISTILLERS["cc"]


def output(h: Tensor) -> Output:
    return Output(torch.empty(len(h), 0), h, [])


def test_cc_by_hand(backbone) -> None:
    """Two images: alike for the student, at a right angle for the teacher; gamma 1/2, order 2.

    K is (1 + cos + cos^2/2) / e: 5/2 for an image with itself, 1 for a right angle.
    """
    term = CC(backbone(), backbone(), gamma=0.5)
    student, teacher = torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    loss = term(output(student), output(teacher), None).item()
    assert loss == pytest.approx(2 * (1.5 / math.e) ** 2 / 4, rel=1e-5)


def test_cc_is_the_naive_sum(backbone) -> None:
    term = CC(backbone(), backbone(), gamma=0.7, order=3)
    student, teacher = torch.randn(4, 3).double(), torch.randn(4, 5).double()
    K = []
    for h in (student.tolist(), teacher.tolist()):
        units = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in h]
        cos = [sum(x * y for x, y in zip(a, b, strict=True)) for a in units for b in units]
        K.append(
            [
                sum(math.exp(-1.4) * (1.4 * c) ** p / math.factorial(p) for p in range(4))
                for c in cos
            ]
        )
    squares = sum((s - t) ** 2 for s, t in zip(*K, strict=True))
    assert term(output(student), output(teacher), None).item() == pytest.approx(squares / 16)


def test_a_high_order_is_the_gaussian_kernel(backbone) -> None:
    h = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1)
    K = CC(backbone(), backbone(), gamma=0.4, order=20).kernel(h)
    torch.testing.assert_close(K, (-0.4 * torch.cdist(h, h).square()).exp())


def test_a_rotation_and_the_scale_of_each_image_mean_nothing(backbone) -> None:
    student = torch.randn(5, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    turned = torch.arange(1, 6)[:, None] * student @ rotation
    loss = CC(backbone(), backbone())(output(student), output(turned), None)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_neighbours_by_hand(backbone) -> None:
    """Three images; |delta| = (1, 2), (3, 4), (5, 0) gives 1*3 + 2*4 and 3*5 + 4*0."""
    term = CC(backbone((2,)), backbone((3,)), variant="neighbours", dim=2)
    g_student, g_teacher = term.embed
    assert (g_student.in_features, g_teacher.in_features) == (2, 3)
    with torch.no_grad():
        g_student.weight.copy_(torch.eye(2))
        g_student.bias.zero_()
        g_teacher.weight.zero_()
        g_teacher.bias.copy_(torch.tensor([1.0, 1.0]))
    student = torch.tensor([[2.0, -1.0], [-2.0, 5.0], [6.0, 1.0]])
    loss = term(output(student), output(torch.randn(3, 3)), None)
    assert loss.item() == pytest.approx((11 + 15) / 2)


def test_neighbours_are_by_order_and_the_paper_is_not(backbone) -> None:
    student, teacher = output(torch.randn(6, 4)), output(torch.randn(6, 4))
    turn = torch.tensor([2, 0, 4, 1, 5, 3])
    turned = [output(o.embedding[turn]) for o in (student, teacher)]
    for variant, same in (("paper", True), ("neighbours", False)):
        term = CC(backbone(), backbone(), variant=variant)
        losses = term(student, teacher, None).item(), term(*turned, None).item()
        assert (losses[0] == pytest.approx(losses[1], rel=1e-4)) is same


def test_only_neighbours_are_learned(backbone) -> None:
    assert list(CC(backbone(), backbone()).parameters()) == []
    assert len(list(CC(backbone(), backbone(), variant="neighbours").parameters())) == 4


@pytest.mark.parametrize(
    ("option", "wrong"), [("gamma", 0.0), ("order", -1), ("variant", "papers"), ("dim", 0)]
)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, option, wrong) -> None:
    with pytest.raises(ValueError, match=f"{option} takes .*not {wrong!r}"):
        CC(backbone(), backbone(), **{option: wrong})
