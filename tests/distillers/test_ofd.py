import math

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.distillers.ofd import OFD, margin
from kdframe.registry import BACKBONES, DISTILLERS


def output(*features: torch.Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def norm(beta: list[float], gamma: list[float]) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(len(beta))
    made.bias.data, made.weight.data = torch.tensor(beta), torch.tensor(gamma)
    return made


def naive_margin(beta: float, gamma: float) -> float:
    """The mean of what is below 0 of 2e4 slices of the normal density."""
    gamma, below, mean = abs(gamma), 0.0, 0.0
    for i in range(20_000):
        z = -10 + 20 * (i + 0.5) / 20_000
        x, density = beta + gamma * z, math.exp(-(z**2) / 2)
        if x < 0:
            below, mean = below + density, mean + x * density
    return mean / below


def without_connectors(student: Backbone, teacher: Backbone, **options: tuple) -> OFD:
    term = OFD(student, teacher, **options)
    term.connectors = nn.ModuleList(nn.Identity() for _ in term.connectors)
    return term


def test_the_margin_is_the_mean_of_what_is_below_0() -> None:
    betas, gammas = [0.0, 0.5, -0.5, 1.5, -4.0], [1.0, 0.5, -2.0, 0.5, 1.0]
    expected = [naive_margin(b, g) for b, g in zip(betas, gammas, strict=True)]
    assert margin(norm(betas, gammas)).flatten().tolist() == pytest.approx(expected, rel=1e-3)
    assert expected[0] == pytest.approx(-math.sqrt(2 / math.pi), rel=1e-3)


def test_where_hardly_anything_is_below_0_the_margin_is_3_deviations_of_0() -> None:
    """P(x < 0) of N(3.0902, 1) is .001."""
    below, above = margin(norm([3.09, 3.0904, 500.0], [1.0, -1.0, 2.0])).flatten().split([1, 2])
    ratio = math.exp(-(3.09**2) / 2) / math.sqrt(2 * math.pi) / (math.erfc(3.09 / 2**0.5) / 2)
    assert below.item() == pytest.approx(3.09 - ratio, rel=1e-4)
    assert above.tolist() == [-3.0, -6.0]


def test_a_channel_without_deviation_has_itself_as_margin_or_0() -> None:
    assert margin(norm([0.0, 2.0, -2.0], [0.0] * 3)).flatten().tolist() == [0, 0, -2]
    assert margin(norm([-1e4, 1e4], [1.0] * 2)).flatten().tolist() == [-1e4, -3]


def test_ofd_by_hand(backbone) -> None:
    """The margin of N(0, 1) is -.7979; two images of three neurons."""
    term = without_connectors(backbone((1,)), backbone((1,)), stages=(0,))
    m = -math.sqrt(2 / math.pi)
    teacher = torch.tensor([[2.0, -0.5, -3.0], [1.0, -0.5, -3.0]]).view(2, 1, 1, 3)
    student = torch.tensor([[0.5, -0.6, -0.9], [-2.0, 0.5, 1.0]]).view(2, 1, 1, 3)
    # -.6 and -.9 are below -.5 and m, and so are left alone
    expected = ((0.5 - 2) ** 2 + (-2 - 1) ** 2 + (0.5 + 0.5) ** 2 + (1 - m) ** 2) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected)


def test_ofd_is_the_naive_sum(backbone) -> None:
    teacher = backbone((2, 5, 4))
    for stage in teacher.network.stages:
        nn.init.normal_(stage[1].weight)
        nn.init.normal_(stage[1].bias)
    term = OFD(backbone((2, 3, 4)), teacher).double()
    ours = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 3, 4)]
    theirs = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 5, 4)]
    total = 0.0
    for i, weight in ((1, 0.5), (2, 1.0)):
        conv = term.connectors[i - 1][0].weight[:, :, 0, 0]
        S = torch.einsum("oc,bchw->bohw", conv, ours[i])
        S = (S - S.mean((0, 2, 3), keepdim=True)) / (
            S.var((0, 2, 3), False, keepdim=True) + 1e-5
        ).sqrt()
        bn = teacher.network.stages[i][1]
        for c, (beta, gamma) in enumerate(zip(bn.bias.tolist(), bn.weight.tolist(), strict=True)):
            z = beta / abs(gamma)
            below = math.erfc(z / 2**0.5) / 2
            density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
            m = beta - abs(gamma) * density / below if below > 0.001 else -3 * abs(gamma)
            pairs = zip(S[:, c].flatten().tolist(), theirs[i][:, c].flatten().tolist(), strict=True)
            for s, t in pairs:
                if t > 0 or s > max(t, m):
                    total += weight * (s - max(t, m)) ** 2 / 3
    loss = term(output(*ours), output(*theirs), None).item()
    assert loss == pytest.approx(total, rel=1e-5)


def test_weights_that_the_teacher_is_given_later_count(backbone) -> None:
    teacher, other = backbone(), backbone()
    term = without_connectors(backbone(), teacher, stages=(2,))
    nn.init.constant_(other.network.stages[2][1].weight, 5.0)
    teacher.load_state_dict(other.state_dict())
    low = [torch.full((2, c, 2, 2), -100.0) for c in (2, 3, 4)]
    loss = term(output(*map(torch.zeros_like, low)), output(*low), None)
    assert loss.item() == pytest.approx(4 * 4 * 25 * 2 / math.pi)


def test_no_norm_of_the_teacher_is_a_parameter_of_the_term(backbone) -> None:
    assert all(name.startswith("connectors.") for name in OFD(backbone(), backbone()).state_dict())


def test_maps_that_are_the_teachers_score_0_and_so_do_lower_ones_where_it_is_negative(
    backbone,
) -> None:
    term = without_connectors(backbone(), backbone())
    teacher = [torch.randn(2, c, 2, 2) for c in (2, 3, 4)]
    low = [torch.where(f < 0, f - torch.rand_like(f), f) for f in teacher]
    for student in (teacher, low):
        assert term(output(*student), output(*teacher), None).item() == 0


def test_the_margins_are_those_before_a_resnets_last_activations() -> None:
    networks = [BACKBONES["cifar_resnet"](5, depth=14) for _ in range(2)]
    term = OFD(*networks, stages=((1, 2), (-1, -1)))
    blocks = networks[1].network.layer2[-1], networks[1].network.layer3[-1]
    assert all(norm is block.bn2 for norm, block in zip(term.norms, blocks, strict=True))


class Plain(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU())


def answer(network: Plain, image: torch.Tensor) -> Output:
    feature = network.stage(image)
    return Output(feature.mean((2, 3)), feature.mean((2, 3)), [feature])


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (nn.Identity(), "None"),
        (nn.GroupNorm(2, 4), "GroupNorm"),
        (nn.BatchNorm2d(4, affine=False), r"BatchNorm2d\(4.*affine=False"),
    ],
)
def test_a_stage_without_a_batchnorm_with_weights_is_refused(backbone, kind, named) -> None:
    teacher = Backbone(Plain(kind), answer, (3, 8, 8))
    with pytest.raises(ValueError, match=f"a BatchNorm with weights .* stage 0 is {named}"):
        OFD(backbone((4,)), teacher, stages=(0,))


def test_a_norm_of_a_part_of_the_stages_channels_is_refused() -> None:
    networks = (BACKBONES[name](10) for name in ("resnet8", "shufflenetv2"))
    with pytest.raises(ValueError, match=r"all 116 channels of the teacher's stage 1; .* has 58"):
        DISTILLERS["ofd"](*networks)


def test_a_wrong_stage_is_refused_while_the_term_is_built(backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage \[9\]: this network has 0 to 2"):
        OFD(backbone(), backbone(), stages=(9,))
