import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def at(student: list[Tensor], teacher: list[Tensor], **options: object) -> float:
    outputs = (Output(torch.empty(0), torch.empty(0), maps) for maps in (student, teacher))
    return DISTILLERS["at"](*outputs, None, **options).item()


ROW = torch.tensor([[[[3.0, -4.0]]]])  # one image, one channel, 1x2
TWO_CHANNELS = torch.tensor([[[[1.0, 0.0]], [[-1.0, 2.0]]]])


def test_at_by_hand() -> None:
    """Squares: (9, 16)/sqrt(337) against the channels' mean (1, 2), that is (1, 2)/sqrt(5)."""
    expected = [9 / math.sqrt(337) - 1 / math.sqrt(5), 16 / math.sqrt(337) - 2 / math.sqrt(5)]
    squares = sum(e**2 for e in expected)
    maps = [ROW], [TWO_CHANNELS]
    assert at(*maps, stages=(0,)) == pytest.approx(squares / 2, rel=1e-5)
    assert at(*maps, stages=(0,), variant="paper") == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_an_odd_p_takes_the_absolute_value() -> None:
    """(3, 4)/5 against (1, 1)/sqrt(2)."""
    root = math.sqrt(0.5)
    expected = ((0.6 - root) ** 2 + (0.8 - root) ** 2) / 2
    assert at([ROW], [TWO_CHANNELS], stages=(0,), p=1) == pytest.approx(expected, rel=1e-5)


def test_at_is_the_naive_sum_over_stages_without_the_stem() -> None:
    shapes = [(2, 3, 4, 4), (2, 3, 2, 3), (2, 5, 1, 2)]
    student, teacher = ([torch.randn(s, dtype=torch.float64) for s in shapes] for _ in range(2))
    total = 0.0
    for f_student, f_teacher in zip(student[1:], teacher[1:], strict=True):
        B, C, H, W = f_student.shape
        for n in range(B):
            Q = []
            for f in (f_student[n].tolist(), f_teacher[n].tolist()):
                v = [sum(f[c][h][w] ** 2 for c in range(C)) for h in range(H) for w in range(W)]
                Q.append([x / math.sqrt(sum(y * y for y in v)) for x in v])
            total += sum((a - b) ** 2 for a, b in zip(*Q, strict=True)) / (B * H * W)
    assert at(student, teacher) == pytest.approx(total)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_a_positive_scale_of_an_image_means_nothing(variant) -> None:
    student, teacher = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    scale = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64).view(3, 1, 1, 1)
    loss = at([student], [teacher], stages=(0,), variant=variant)
    assert at([student * scale], [teacher], stages=(0,), variant=variant) == pytest.approx(loss)
    assert at([student * scale], [student], stages=(0,)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(larger) -> None:
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 5, 4, 4)
    expected = at([small], [F.avg_pool2d(large, 2)], stages=(0,))
    maps = ([large], [small]) if larger == "student" else ([small], [large])
    assert at(*maps, stages=(0,)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_a_dead_map_has_a_finite_gradient(variant) -> None:
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)
    outputs = (
        Output(torch.empty(0), torch.empty(0), [f]) for f in (student, torch.zeros(2, 3, 2, 2))
    )
    DISTILLERS["at"](*outputs, None, stages=(0,), variant=variant).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_networks_of_unlike_depth_need_stages_by_name() -> None:
    maps = [torch.randn(1, 1, 2, 2)] * 5
    with pytest.raises(ValueError, match="3 stages of the student and 4 of the teacher"):
        at(maps[:4], maps)
    assert at(maps[:4], maps, stages=(1, -1)) == 0


@pytest.mark.parametrize(("option", "wrong"), [("p", 0), ("variant", "codes")])
def test_a_wrong_option_is_refused_by_name_and_value(option, wrong) -> None:
    with pytest.raises(ValueError, match=f"{option} takes .* not {wrong!r}"):
        at([ROW], [ROW], stages=(0,), **{option: wrong})
