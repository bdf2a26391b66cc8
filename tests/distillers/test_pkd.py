import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

PKD = DISTILLERS["pkd"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_pkd_by_hand(backbone) -> None:
    """Over two images of one value: (0, 2) is z = (-1, 1), and (5, 3) is (1, -1): 4/2."""
    term = PKD(backbone((1,)), backbone((1,)), stages=(0,))
    student, teacher = (torch.tensor(v).view(2, 1, 1, 1) for v in ([0.0, 2.0], [5.0, 3.0]))
    assert term(output(student), output(teacher), None).item() == pytest.approx(2, rel=1e-5)


def test_pkd_is_1_less_pearsons_correlation_the_mean_over_channels(backbone) -> None:
    term = PKD(backbone((2, 3)), backbone((2, 3)), stages=(0, 1)).double()
    student, teacher = (
        [torch.randn(2, c, 2, 3, dtype=torch.float64) for c in (2, 3)] for _ in range(2)
    )
    total = 0.0
    for maps in zip(student, teacher, strict=True):
        rows = [f.transpose(0, 1).flatten(1).tolist() for f in maps]
        for x, y in zip(*rows, strict=True):
            mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
            across = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
            squares = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
            total += (1 - across / math.sqrt(squares)) / len(rows[0])
    loss = term(output(*student), output(*teacher), None).item()
    assert loss == pytest.approx(total, rel=1e-5)


def test_a_positive_scale_and_a_shift_of_a_channel_mean_nothing(backbone) -> None:
    term = PKD(backbone((4,)), backbone((4,)), stages=(0,)).double()
    student, teacher = torch.randn(2, 2, 4, 2, 2, dtype=torch.float64)
    scale = torch.tensor([0.1, 1.0, 9.0, 3.0], dtype=torch.float64).view(4, 1, 1)
    changed = student * scale + scale.flip(0)
    loss = term(output(student), output(teacher), None)
    torch.testing.assert_close(
        term(output(changed), output(teacher), None), loss, rtol=1e-4, atol=0
    )
    assert term(output(changed), output(student), None).item() == pytest.approx(0, abs=1e-9)
    assert term(output(-changed), output(student), None).item() == pytest.approx(2, rel=1e-4)


def test_a_channel_that_is_constant_in_one_network_scores_half(backbone) -> None:
    """Its z is 0, and the mean square of the other's is 1."""
    term = PKD(backbone((4,)), backbone((4,)), stages=(0,))
    student = torch.full((2, 4, 2, 2), 3.0, requires_grad=True)
    loss = term(output(student), output(torch.randn(2, 4, 2, 2)), None)
    assert loss.item() == pytest.approx(0.5, rel=1e-4)
    loss.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = PKD(backbone((3,)), backbone((3,)), stages=(0,))
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    maps, pooled = [small, large], [small, F.avg_pool2d(large, 2)]
    if larger == "student":
        maps, pooled = maps[::-1], pooled[::-1]
    torch.testing.assert_close(
        term(output(maps[0]), output(maps[1]), None),
        term(output(pooled[0]), output(pooled[1]), None),
    )


def test_a_convolution_stands_where_channels_differ(backbone) -> None:
    term = PKD(backbone((2, 3)), backbone((2, 5)), stages=(0, 1))
    assert [type(r) for r in term.adapters] == [nn.Identity, nn.Conv2d]
    student = [torch.randn(2, c, 2, 2) for c in (2, 3)]
    adapted = [r(f) for r, f in zip(term.adapters, student, strict=True)]
    assert term(output(*student), output(*adapted), None).item() == 0


def test_a_stage_that_is_not_there_is_refused(backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage \[7\]: this network has 0 to 2"):
        PKD(backbone(), backbone(), stages=(7,))
