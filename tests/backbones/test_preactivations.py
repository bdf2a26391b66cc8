"""The maps before a stage's last activation, for networks that place it differently."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.registry import BACKBONES

ENDS_IN_RELU = {
    "resnet10t": {},
    "resnet18": {"small_input": True},
    "resnet50": {"small_input": True},
    "wide_resnet50_2": {},
    "cifar_resnet": {"depth": 8},
    "repvgg_a0": {},
}


def trained(name: str, **options: object) -> Backbone:
    """As if trained: timm starts a block's last scale at 0, where ReLU changes nothing."""
    backbone = BACKBONES[name](7, **options)
    backbone.input_size = (3, 32, 32)
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return backbone


def taken(backbone: Backbone, image: torch.Tensor) -> tuple[Output, Output]:
    output = backbone(image)
    return output, backbone.before_activation(output)


@pytest.mark.parametrize("name", ENDS_IN_RELU)
def test_relu_of_the_map_before_is_the_feature(name) -> None:
    """Though timm's ReLUs write over their input; and taking it changes no answer."""
    backbone = trained(name, **ENDS_IN_RELU[name]).eval()
    image = torch.randn(2, 3, 32, 32)
    expected = backbone(image)
    assert all(isinstance(tap.norm, nn.BatchNorm2d) for tap in backbone.taps)
    output, before = taken(backbone, image)
    assert torch.equal(output.logits, expected.logits)
    for map_before, feature in zip(before.features, output.features, strict=True):
        assert (map_before < 0).any()
        assert torch.equal(F.relu(map_before), feature)


def test_a_fresh_network_whose_last_scales_are_0_is_understood_too() -> None:
    backbone = BACKBONES["resnet18"](7, small_input=True)
    assert [type(tap.activation) for tap in backbone.taps] == [nn.ReLU] * 5
    assert [tap.norm for tap in backbone.taps] == [
        backbone.network.bn1,
        *(getattr(backbone.network, f"layer{i}")[-1].bn2 for i in (1, 2, 3, 4)),
    ]


def test_the_norm_of_a_shortcut_is_not_taken_for_the_blocks() -> None:
    """In a stage of one block its shortcut is called last."""
    backbone = BACKBONES["cifar_resnet"](7, depth=8)
    assert [tap.norm for tap in backbone.taps[1:]] == [
        getattr(backbone.network, f"layer{i}")[0].bn2 for i in (1, 2, 3)
    ]


def test_a_pre_activation_network_is_taken_behind_the_next_norm() -> None:
    backbone = trained("resnetv2_50").eval()
    network = backbone.network
    norms = [stage.blocks[0].norm1 for stage in network.stages[1:]] + [network.norm]
    assert [tap.norm for tap in backbone.taps[1:]] == norms
    output, before = taken(backbone, torch.randn(1, 3, 32, 32))
    for norm, feature, map_before in zip(
        norms, output.features[1:], before.features[1:], strict=True
    ):
        expected = F.batch_norm(
            feature, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        torch.testing.assert_close(map_before, expected)


def test_a_linear_end_of_a_stage_is_its_own_map() -> None:
    backbone = trained("mobilenetv2_050").eval()
    ends = [stage[-1] for stage in backbone.network.blocks]
    norms = [getattr(end, "bn3", None) or end.bn2 for end in ends]
    assert [tap.activation for tap in backbone.taps] == [None] * 5
    assert all(tap.norm in norms for tap in backbone.taps)
    output, before = taken(backbone, torch.randn(1, 3, 32, 32))
    assert all(a is b for a, b in zip(output.features, before.features, strict=True))


def test_the_gradient_flows_and_a_tapped_network_can_be_copied_after_a_step() -> None:
    backbone = trained("cifar_resnet", depth=8).train()
    assert len(backbone.taps) == 4
    _, before = taken(backbone, torch.randn(2, 3, 32, 32))
    before.features[-1].sum().backward()
    assert backbone.network.conv1.weight.grad.abs().sum() > 0
    _, again = taken(copy.deepcopy(backbone), torch.randn(2, 3, 32, 32))
    assert (again.features[-1] < 0).any()


def test_a_compiled_network_hands_out_its_maps() -> None:
    backbone = trained("cifar_resnet", depth=8).eval()
    image = torch.randn(2, 3, 32, 32)
    assert backbone.taps
    _, expected = taken(backbone, image)
    backbone.compile(backend="aot_eager")
    _, before = taken(backbone, image)
    torch.testing.assert_close(before.features, expected.features)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU()


def shared(network: Shared, image: torch.Tensor) -> Output:
    one = network.relu(network.first(image))
    two = network.relu(network.second(one))
    return Output(two.mean((2, 3)), two.mean((2, 3)), [one, two])


def functional(network: Shared, image: torch.Tensor) -> Output:
    one = F.relu(network.first(image))
    return Output(one.mean((2, 3)), one.mean((2, 3)), [one])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (shared, "stage 0 ends in an activation that is called again"),
        (functional, "stage 0 ends in an activation that is no module"),
    ],
)
def test_what_cannot_be_taken_rightly_is_refused(answer, message) -> None:
    with pytest.raises(ValueError, match=message):
        _ = Backbone(Shared(), answer, (3, 8, 8)).taps
