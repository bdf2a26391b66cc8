import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def nst(student: list[Tensor], teacher: list[Tensor], **options: object) -> Tensor:
    outputs = (Output(torch.empty(0), torch.empty(0), maps) for maps in (student, teacher))
    return DISTILLERS["nst"](*outputs, None, **options)


def naive(f_student: Tensor, f_teacher: Tensor) -> float:
    """Of one stage, by the definition: all pairs of channels of every image."""
    total = 0.0
    for images in zip(f_student.flatten(2).tolist(), f_teacher.flatten(2).tolist(), strict=True):
        x, y = (
            [[v / math.sqrt(sum(w * w for w in channel)) for v in channel] for channel in image]
            for image in images
        )
        for a, b, sign in ((x, x, 1), (y, y, 1), (x, y, -2)):
            squares = [sum(v * w for v, w in zip(c, d, strict=True)) ** 2 for c in a for d in b]
            total += sign * sum(squares) / len(squares)
    return total / len(f_student)


def test_nst_by_hand() -> None:
    """The student's channels (1, 0), (0, 1): mean 1/2; the teacher's (3, 4)/5: 1; across 1/2."""
    student = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    teacher = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    expected = 1 / 2 + 1 - 2 * (0.6**2 + 0.8**2) / 2
    assert nst([student], [teacher], stages=(0,)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("channels", "side"),
    [((2, 3), 3), ((5, 3), 2), ((2, 4), 2)],
    ids=["fewer channels", "fewer positions", "as many"],
)
def test_nst_is_the_naive_mean_over_pairs_of_channels(channels, side) -> None:
    student, teacher = (torch.randn(2, c, side, side, dtype=torch.float64) for c in channels)
    loss = nst([student], [teacher], stages=(0,))
    assert loss.item() == pytest.approx(naive(student, teacher))


def test_the_stages_without_the_stem_are_summed() -> None:
    student, teacher = ([torch.randn(2, c, 2, 2) for c in (1, 2, 3)] for _ in range(2))
    parts = [nst(student, teacher, stages=(i,)) for i in (1, 2)]
    torch.testing.assert_close(nst(student, teacher), parts[0] + parts[1])


@pytest.mark.parametrize("side", [1, 2, 4])
def test_scale_sign_and_order_of_channels_mean_nothing(side) -> None:
    student, teacher = torch.randn(2, 2, 4, side, side, dtype=torch.float64)
    scale = torch.tensor([0.1, -1.0, 9.0, -3.0], dtype=torch.float64).view(4, 1, 1)
    changed = (student * scale)[:, [2, 0, 3, 1]]
    torch.testing.assert_close(
        nst([changed], [teacher], stages=(0,)), nst([student], [teacher], stages=(0,))
    )
    assert nst([changed], [student], stages=(0,)).item() == pytest.approx(0, abs=1e-15)


def test_a_channel_that_is_there_twice_means_nothing_where_all_are() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    twice = torch.cat((student, student), dim=1)
    torch.testing.assert_close(
        nst([twice], [teacher], stages=(0,)), nst([student], [teacher], stages=(0,))
    )


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(larger) -> None:
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 5, 4, 4)
    expected = nst([small], [F.avg_pool2d(large, 2)], stages=(0,))
    maps = ([large], [small]) if larger == "student" else ([small], [large])
    torch.testing.assert_close(nst(*maps, stages=(0,)), expected)


@pytest.mark.parametrize("side", [1, 3])
def test_a_dead_map_has_a_finite_gradient(side) -> None:
    student = torch.zeros(2, 4, side, side, requires_grad=True)
    nst([student], [torch.randn(2, 4, side, side)], stages=(0,)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
