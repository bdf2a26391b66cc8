import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

MGD = DISTILLERS["mgd"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_mgd_by_hand(backbone) -> None:
    """Nothing masked, G = 2 ReLU(3 f) + 1: (1, -1) gives (7, 1), the teacher has (5, 4)."""
    term = MGD(backbone((1,)), backbone((1,)), ratio=0.0)
    first, _, second = term.generators[0]
    for layer, factor, bias in ((first, 3.0, 0.0), (second, 2.0, 1.0)):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.weight[..., 1, 1], factor)
        nn.init.constant_(layer.bias, bias)
    student, teacher = (torch.tensor(v).view(2, 1, 1, 1) for v in ([1.0, -1.0], [5.0, 4.0]))
    assert term(output(student), output(teacher), None).item() == (2**2 + 3**2) / 2


def test_mgd_is_the_naive_sum_over_what_the_mask_leaves(backbone) -> None:
    term = MGD(backbone((2, 3)), backbone((2, 4)), stages=(0, 1), ratio=0.5).double()
    student = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 3)]
    teacher = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 4)]
    torch.manual_seed(5)
    loss = term(output(*student), output(*teacher), None).item()
    torch.manual_seed(5)
    total = 0.0
    for i, C in enumerate((2, 4)):
        drawn = torch.rand(3, C, 1, 1).tolist()
        f = term.adapters[i](student[i])
        for n in range(3):
            for c in range(C):
                if drawn[n][c][0][0] < 0.5:
                    f[n, c] = 0
        G = term.generators[i](f).flatten().tolist()
        total += sum((a - b) ** 2 for a, b in zip(G, teacher[i].flatten().tolist(), strict=True))
    assert loss == pytest.approx(total / 3)


@pytest.mark.parametrize(("mask", "dims"), [("channels", (2, 3)), ("positions", (1,))])
def test_a_channel_or_a_position_is_masked_whole_and_as_often_as_told(backbone, mask, dims) -> None:
    term = MGD(backbone(), backbone(), ratio=0.3, mask=mask)
    left = term.masked(torch.ones(40, 30, 5, 6))
    assert set(left.unique().tolist()) == {0.0, 1.0}
    assert (left.amin(dims) == left.amax(dims)).all()
    n = left.amin(dims).numel()
    assert left.mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / n))


def test_every_call_draws_anew(backbone) -> None:
    term, f = MGD(backbone(), backbone(), ratio=0.5), torch.ones(8, 8, 2, 2)
    assert not torch.equal(term.masked(f), term.masked(f))


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = MGD(backbone((3,)), backbone((3,)), ratio=0.0)
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    maps, pooled = [small, large], [small, F.avg_pool2d(large, 2)]
    if larger == "student":
        maps, pooled = maps[::-1], pooled[::-1]
    torch.testing.assert_close(
        term(output(maps[0]), output(maps[1]), None),
        term(output(pooled[0]), output(pooled[1]), None),
    )


def test_what_the_generator_makes_of_the_student_scores_0(backbone) -> None:
    term, student = MGD(backbone((3,)), backbone((5,)), ratio=0.0), torch.randn(2, 3, 2, 2)
    teacher = term.generators[0](term.adapters[0](student))
    assert term(output(student), output(teacher), None).item() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": 1.5}, "ratio takes a number from 0 to 1, not 1.5"),
        ({"mask": "channel"}, "mask takes channels or positions, not 'channel'"),
        ({"stages": (7,)}, r"no stage \[7\]"),
    ],
)
def test_a_wrong_option_is_refused(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        MGD(backbone(), backbone(), **wrong)
