import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

VID = DISTILLERS["vid"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_vid_by_hand(backbone) -> None:
    """mu doubles three times and the ReLUs keep a positive map: 8 and 16 against 9 and 13."""
    term = VID(backbone((1,)), backbone((1,)), stages=(0,), init_variance=2.0)
    for layer in term.mu[0][::2]:
        nn.init.constant_(layer.weight, 2.0)
    student = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    teacher = torch.tensor([9.0, 13.0]).view(2, 1, 1, 1)
    expected = ((1 + 9) / 2 / 2 + math.log(2)) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected)


def test_vid_is_the_mean_of_the_gaussians_log_densities_without_their_constant(backbone) -> None:
    term = VID(backbone((2, 3)), backbone((4, 5)), stages=(0, 1), eps=0.1).double()
    student = [torch.randn(2, c, 3, 3, dtype=torch.float64) for c in (2, 3)]
    teacher = [torch.randn(2, c, 3, 3, dtype=torch.float64) for c in (4, 5)]
    total = 0.0
    for i in (0, 1):
        nn.init.uniform_(term.r[i], -3, 3)
        mu = term.mu[i](student[i]).flatten(2).tolist()
        r, t = term.r[i].flatten().tolist(), teacher[i].flatten(2).tolist()
        C = len(r)
        for n in range(2):
            for c in range(C):
                v = math.log(1 + math.exp(r[c])) + 0.1
                for a, b in zip(mu[n][c], t[n][c], strict=True):
                    density = math.exp(-((a - b) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
                    total -= (math.log(density) + math.log(2 * math.pi) / 2) / (2 * C * 9)
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


@pytest.mark.parametrize("variance", [1e-3, 5.0, 2e3])
def test_every_variance_begins_where_it_is_told(backbone, variance) -> None:
    term = VID(backbone(), backbone(), init_variance=variance)
    for r in term.r:
        torch.testing.assert_close(F.softplus(r) + term.eps, torch.full_like(r, variance))


def test_a_variance_is_learned_and_rests_at_the_mean_square_of_its_channels_error(backbone) -> None:
    term = VID(backbone((1,)), backbone((2,)), stages=(0,)).double()
    student, teacher = (torch.randn(4, c, 2, 2, dtype=torch.float64) for c in (1, 2))
    error = (term.mu[0](student) - teacher).square().mean((0, 2, 3)).detach()
    assert any(p is term.r[0] for p in term.parameters())
    for factor, slope in ((0.5, -1), (1.0, 0), (2.0, 1)):
        softplus = factor * error - term.eps
        term.r[0].data.copy_(softplus.expm1().log().view(2, 1, 1))
        (grad,) = torch.autograd.grad(term(output(student), output(teacher), None), term.r[0])
        assert (grad.abs() < 1e-12).all() if slope == 0 else (grad.sign() == slope).all()


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled_before_mu(backbone, larger) -> None:
    term = VID(backbone((3,)), backbone((3,)), stages=(0,))
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    maps, pooled = [small, large], [small, F.avg_pool2d(large, 2)]
    if larger == "student":
        maps, pooled = maps[::-1], pooled[::-1]
    torch.testing.assert_close(
        term(output(maps[0]), output(maps[1]), None),
        term(output(pooled[0]), output(pooled[1]), None),
    )


def test_mu_has_the_teachers_width_and_no_bias(backbone) -> None:
    term = VID(backbone((2, 3, 4)), backbone((2, 5, 6)))
    assert [[tuple(p.shape) for p in mu.parameters()] for mu in term.mu] == [
        [(5, 3, 1, 1), (5, 5, 1, 1), (5, 5, 1, 1)],
        [(6, 4, 1, 1), (6, 6, 1, 1), (6, 6, 1, 1)],
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eps": 0.0}, "eps takes a number above 0, not 0.0"),
        ({"init_variance": 0.1, "eps": 0.2}, r"init_variance .* above eps \(0.2\), not 0.1"),
        ({"init_variance": math.nan}, "init_variance takes .* not nan"),
        ({"stages": (7,)}, r"no stage \[7\]"),
    ],
)
def test_a_wrong_option_is_refused(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        VID(backbone(), backbone(), **wrong)
