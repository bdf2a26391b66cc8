import copy
import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

VKD = DISTILLERS["vkd"]


def output(embedding: Tensor) -> Output:
    return Output(torch.empty(0), embedding, [])


def moved(student: int, teacher: int, backbone) -> torch.nn.Module:
    """A term after steps of a strongly decayed optimizer."""
    term = VKD(backbone((student,)), backbone((teacher,)))
    optimizer = torch.optim.SGD(term.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    h_student, h_teacher = torch.randn(6, student), torch.randn(6, teacher)
    for _ in range(5):
        optimizer.zero_grad()
        term(output(h_student), output(h_teacher), None).backward()
        optimizer.step()
    return term


def test_vkd_by_hand(backbone) -> None:
    """The teacher's (4, 2) is (1, -1)/sqrt(1 + 1e-5); P = 1: off by 2 and by half of that."""
    term = VKD(backbone((2,)), backbone((2,)))
    term.P_0.copy_(torch.eye(2))
    unit = 1 / math.sqrt(1 + 1e-5)
    student, teacher = torch.tensor([[unit + 2, -unit / 2]]), torch.tensor([[4.0, 2.0]])
    expected = ((2 - 0.5) + (unit / 2) ** 2 / 2) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mine", "theirs"), [(3, 5), (5, 3), (4, 4)])
def test_vkd_is_the_naive_mean(backbone, mine, theirs) -> None:
    term = moved(mine, theirs, backbone).double()
    student = torch.randn(4, mine, dtype=torch.float64)
    teacher = 3 * torch.randn(4, theirs, dtype=torch.float64) + 2
    P, total = term.projection().tolist(), 0.0
    for h, t in zip(student.tolist(), teacher.tolist(), strict=True):
        mean = sum(t) / theirs
        var = sum((v - mean) ** 2 for v in t) / theirs
        for row, v in zip(P, t, strict=True):
            d = abs(
                sum(a * b for a, b in zip(row, h, strict=True)) - (v - mean) / math.sqrt(var + 1e-5)
            )
            total += (d * d / 2 if d < 1 else d - 0.5) / (4 * theirs)
    assert term(output(student), output(teacher), None).item() == pytest.approx(total)


@pytest.mark.parametrize(("mine", "theirs"), [(3, 5), (5, 3), (4, 4)])
def test_p_stays_orthonormal_and_moves_while_it_is_learned_and_decayed(
    backbone, mine, theirs
) -> None:
    term = moved(mine, theirs, backbone)
    P, smaller = term.projection(), min(mine, theirs)
    assert P.shape == (theirs, mine)
    products = P.T @ P if mine <= theirs else P @ P.T
    torch.testing.assert_close(products, torch.eye(smaller), rtol=0, atol=1e-5)
    before = term.P_0 if mine <= theirs else term.P_0.T
    assert (P - before).abs().max() > 0.01


def test_p_is_cayleys_map_of_two_dimensions(backbone) -> None:
    """A = (0 -a; a 0) turns by 2 atan(a/2)."""
    term = VKD(backbone((2,)), backbone((2,)))
    term.P_0.copy_(torch.eye(2))
    torch.nn.init.constant_(term.lower[1], 0.6)
    angle = 2 * math.atan(0.3)
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    torch.testing.assert_close(term.projection(), torch.tensor(turn))


def test_a_positive_scale_and_a_shift_of_the_teacher_mean_nothing(backbone) -> None:
    term = VKD(backbone((3,)), backbone((5,))).double()
    student, teacher = (torch.randn(4, c, dtype=torch.float64) for c in (3, 5))
    torch.testing.assert_close(
        term(output(student), output(9 * teacher + 4), None),
        term(output(student), output(teacher), None),
        rtol=1e-4,
        atol=0,
    )


def test_a_student_that_is_the_teachers_embedding_turned_back_scores_0(backbone) -> None:
    term = moved(5, 5, backbone)
    teacher = torch.randn(4, 5)
    student = torch.nn.functional.layer_norm(teacher, (5,)) @ term.projection()
    loss = term(output(student), output(teacher), None).item()
    assert loss == pytest.approx(0, abs=1e-10)


def test_a_copy_and_a_saved_state_give_the_same_number(backbone) -> None:
    term, other = moved(3, 5, backbone), VKD(backbone((3,)), backbone((5,)))
    student, teacher = torch.randn(4, 3), torch.randn(4, 5)
    loss = term(output(student), output(teacher), None)
    other.load_state_dict(term.state_dict())
    for same in (copy.deepcopy(term), other):
        assert torch.equal(same(output(student), output(teacher), None), loss)
