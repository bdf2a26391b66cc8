"""Folded networks answer as they did, and what can't be folded stays."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdframe.backbones import Backbone, Output, fold_if_same, folded
from kdframe.backbones.folding import difference, foldable
from kdframe.registry import BACKBONES

NORMS = {  # in all, and those that follow an addition, a concatenation or a pooling
    "cifar_resnet": (9, 0, {"depth": 8}),
    "resnet18": (20, 0, {"small_input": True}),
    "wrn_16_2": (13, 7, {}),
    "vgg8": (5, 0, {}),
    "mobilenetv2": (53, 0, {}),
    "shufflenetv1": (49, 0, {}),
    "shufflenetv2": (56, 0, {}),
    "tf_efficientnet_b0": (49, 0, {}),  # Conv2dSame, and a norm with its activation
    "densenet121": (121, 62, {}),
    "convnext_atto": (0, 0, {}),
    "vit_tiny_patch16_224": (0, 0, {"image_size": 32}),
}


def trained(backbone: Backbone, tapped: bool = True) -> Backbone:
    """As if trained: no norm is the identity, no stage is dead."""
    generator = torch.Generator().manual_seed(1)
    backbone.input_size = (3, 32, 32)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for x, least, most in (
                (norm.weight, 0.5, 1.5), (norm.bias, -0.3, 0.3),
                (norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2.0),
            ):  # fmt: skip
                x.data.uniform_(least, most, generator=generator)
    if tapped:
        assert backbone.taps
    return backbone.eval()


@pytest.mark.parametrize("name", NORMS)
def test_a_folded_network_answers_the_same(name) -> None:
    """Logits, embedding, every feature and the maps before activations, to rounding."""
    norms, stay, options = NORMS[name]
    backbone = trained(BACKBONES[name](7, **options))
    copied = folded(backbone)
    assert len(foldable(backbone)) == norms - stay
    left = sum(isinstance(layer, nn.BatchNorm2d) for layer in copied.network.modules())
    assert left == stay
    assert difference(copied, backbone, torch.randn(2, 3, 32, 32)) < 5e-6


class Tiny(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, **options)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)


def tiny(between, **options) -> Backbone:
    """``between(network, image)`` is the only feature."""

    def answer(network, image):
        feature = between(network, image)
        embedding = feature.mean((2, 3))
        return Output(network.fc(embedding), embedding, [feature])

    return trained(Backbone(Tiny(**options), answer, (3, 8, 8)), tapped=False)


def plainly(network, image):
    return network.norm(network.conv(image))


def test_the_arithmetic_is_that_of_one_number() -> None:
    """gamma (w x + b - mean) / sqrt(var + eps) + beta, written out for a 1x1 convolution of 1s."""
    backbone = tiny(plainly)
    network = backbone.network
    network.conv.weight.data.fill_(0.5)
    network.conv.bias.data.fill_(2.0)
    for x, value in (
        (network.norm.weight, 3.0), (network.norm.bias, -1.0),
        (network.norm.running_mean, 1.0), (network.norm.running_var, 4.0),
    ):  # fmt: skip
        x.data.fill_(value)
    conv = folded(backbone).network.conv
    torch.testing.assert_close(conv.weight, torch.full_like(conv.weight, 0.75))
    torch.testing.assert_close(conv.bias, torch.full((4,), 0.5))


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"padding": 1, "padding_mode": "reflect"}]
)
def test_every_kind_of_convolution_is_folded(options) -> None:
    fold = fold_if_same(tiny(plainly, **options), torch.randn(2, 3, 8, 8))
    assert fold.convolutions == 1 and fold.difference < 1e-6
    assert isinstance(fold.network.network.norm, nn.Identity)


def test_the_network_itself_stays_as_it_is() -> None:
    backbone = BACKBONES["cifar_resnet"](7, depth=8)
    trained(backbone).train()
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    copied = folded(backbone)
    assert backbone.training and all(p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(x, before[name]) for name, x in backbone.state_dict().items())
    assert not copied.training and not any(p.requires_grad for p in copied.parameters())
    assert not any(layer._forward_hooks for layer in backbone.modules())


def test_the_layout_of_the_weights_stays() -> None:
    backbone = trained(BACKBONES["cifar_resnet"](7, depth=8)).to(memory_format=torch.channels_last)
    weight = folded(backbone).network.layer2[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_taps_keep_the_norms_that_were_folded() -> None:
    backbone = trained(BACKBONES["cifar_resnet"](7, depth=8))
    copied = folded(backbone)
    for tap, copied_tap in zip(backbone.taps, copied.taps, strict=True):
        assert torch.equal(tap.norm.weight, copied_tap.norm.weight)
        assert torch.equal(tap.norm.running_var, copied_tap.norm.running_var)
        assert copied_tap.activation in set(copied.modules())


def test_a_map_that_a_tap_has_kept_is_let_go() -> None:
    """It has a graph, and a tensor with one can't be copied."""
    backbone = trained(BACKBONES["cifar_resnet"](7, depth=8))
    backbone(torch.randn(2, 3, 32, 32))
    assert folded(backbone).network is not backbone.network


def shared_norm(network, image):
    return network.norm(network.conv(image)) + network.norm(network.conv(image).relu())


def norm_twice(network, image):
    return network.norm(network.norm(network.conv(image)))


def norm_first(network, image):
    return network.norm(F.pad(network.conv(image), (1, 1, 1, 1)))


@pytest.mark.parametrize("between", [shared_norm, norm_twice, norm_first])
def test_what_is_called_twice_or_not_in_a_row_is_not_folded(between) -> None:
    backbone = tiny(between)
    assert foldable(backbone) == []
    assert fold_if_same(backbone, torch.randn(2, 3, 8, 8)).network is backbone


def test_a_norm_of_two_names_is_not_folded() -> None:
    backbone = tiny(plainly)
    backbone.network.other = backbone.network.norm
    assert foldable(backbone) == []


def test_a_convolution_whose_output_is_handed_out_is_not_folded() -> None:
    backbone = tiny(plainly)

    def answer(network, image):
        map_before = network.conv(image)
        embedding = network.norm(map_before).mean((2, 3))
        return Output(network.fc(embedding), embedding, [map_before])

    backbone.answer = answer
    assert foldable(backbone) == []


def test_a_norm_without_running_statistics_or_with_a_hook_is_not_folded() -> None:
    backbone = tiny(plainly)
    backbone.network.norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert foldable(backbone) == []
    backbone = tiny(plainly)
    backbone.network.norm.register_forward_hook(lambda *_: None)
    assert foldable(backbone) == []


def unseen_use(network, image):
    x = network.conv(image)
    return network.norm(x) + x


def own_norm(network, image):
    x, norm = network.conv(image), network.norm
    return norm(x) + F.batch_norm(x, norm.running_mean, norm.running_var)


@pytest.mark.parametrize("between", [unseen_use, own_norm])
def test_a_network_that_would_answer_otherwise_stays_unfolded(between) -> None:
    backbone = tiny(between)
    fold = fold_if_same(backbone, torch.randn(2, 3, 8, 8))
    assert fold.network is backbone
    assert fold.convolutions == 1 and fold.difference > 1e-2


def test_a_network_whose_answers_are_not_numbers_stays_unfolded() -> None:
    backbone = tiny(plainly)
    backbone.network.norm.running_mean[0] = torch.nan
    assert fold_if_same(backbone, torch.randn(2, 3, 8, 8)).network is backbone


def test_weights_in_bf16_give_the_bits_that_autocast_gives() -> None:
    backbone = trained(BACKBONES["cifar_resnet"](7, depth=8))
    image = torch.randn(4, 3, 32, 32)
    once = fold_if_same(backbone, image, torch.bfloat16).network
    assert once.network.layer1[0].conv1.weight.dtype == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(once(image).logits, folded(backbone)(image).logits)


def test_folding_is_a_function_of_the_weights_alone() -> None:
    backbone = trained(BACKBONES["cifar_resnet"](7, depth=8))
    image = torch.randn(4, 3, 32, 32)
    one = fold_if_same(backbone, image).network.state_dict()
    other = fold_if_same(copy.deepcopy(backbone), image[:1]).network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
