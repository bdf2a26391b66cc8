"""The networks of the distillation papers: what they hand out, how they start, and timm's view."""

import copy
import functools
import pickle
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from kdframe.backbones import Backbone
from kdframe.backbones.papers import in_timm, renamed
from kdframe.registry import BACKBONES

RESNETS = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
WIDE = {"resnet8x4": 64, "resnet32x4": 64}
VGGS = ("vgg8", "vgg11", "vgg13", "vgg16", "vgg19")
SHAPES = {  # of the features for an image of 32x32, and the embedding's size
    **dict.fromkeys(RESNETS, ([(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)], 64)),
    **dict.fromkeys(WIDE, ([(32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)], 256)),
    **{
        f"wrn_{depth}_{k}": (
            [(16, 32, 32), (16 * k, 32, 32), (32 * k, 16, 16), (64 * k, 8, 8)],
            64 * k,
        )
        for depth in (16, 40)
        for k in (1, 2)
    },
    **dict.fromkeys(
        VGGS, ([(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)], 512)
    ),
    "mobilenetv2": ([(16, 16, 16), (12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)], 1280),
    "shufflenetv1": ([(24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4)], 960),
    "shufflenetv2": ([(24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4)], 1024),
}
KINDS = ("resnet8", "resnet8x4", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2")


@functools.cache
def fresh(name: str) -> Backbone:
    network = BACKBONES[name](10)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return network


@pytest.fixture(params=KINDS)
def backbone(request) -> Backbone:
    return copy.deepcopy(fresh(request.param)).eval()


@pytest.mark.parametrize("name", SHAPES)
def test_features_and_embedding_have_the_papers_shapes(name) -> None:
    backbone = BACKBONES[name](100)
    assert backbone.input_size == (3, 32, 32)
    assert (backbone.shapes, backbone.embedding_size) == SHAPES[name]
    assert backbone.num_classes == 100
    assert BACKBONES.options(name) == {}


def test_the_classifier_makes_the_logits_of_the_embedding(backbone) -> None:
    image = torch.randn(2, 3, 32, 32)
    output = backbone(image)
    assert isinstance(backbone.classifier, nn.Linear)
    assert torch.equal(backbone.classifier(output.embedding), output.logits)
    torch.testing.assert_close(backbone.network(image), output.logits)


@pytest.mark.parametrize("size", [(40, 56), (33, 31), (64, 64)])
def test_other_images_are_taken_too(backbone, size) -> None:
    output = backbone(torch.randn(1, 3, *size))
    assert output.logits.shape == (1, 10)
    heights = [f.shape[-2] for f in output.features]
    assert heights == sorted(heights, reverse=True)


def test_no_later_layer_writes_into_a_feature(backbone) -> None:
    image = torch.randn(1, 3, 32, 32)
    for i, feature in enumerate(backbone(image).features):
        (alone,) = backbone.network.forward_intermediates(
            image, indices=[i], stop_early=True, intermediates_only=True
        )
        assert torch.equal(feature, alone)


def test_every_parameter_has_a_part_in_the_logits(backbone) -> None:
    backbone.train()
    backbone(torch.randn(4, 3, 32, 32)).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_a_network_can_be_sent_to_another_process(backbone) -> None:
    image = torch.randn(1, 3, 32, 32)
    again = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(again(image).logits, backbone(image).logits)


@pytest.mark.parametrize("name", ["wrn_16_1", "vgg8", "shufflenetv2"])
def test_a_network_compiles_whole(name) -> None:
    backbone = copy.deepcopy(fresh(name)).eval()
    image = torch.randn(1, 3, 32, 32)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image).logits, backbone(image).logits)


def test_the_map_before_activation_is_known(backbone) -> None:
    """A pre-activation network's feature is normalised first; a linear end is its own map."""
    linear = [tap.activation is None for tap in backbone.taps]
    output = backbone(torch.randn(1, 3, 32, 32))
    before = backbone.before_activation(output).features
    for i, (early, feature) in enumerate(zip(before, output.features, strict=True)):
        assert (early < 0).any()
        if linear[i]:
            assert early is feature
        elif not (feature < 0).any():
            assert torch.equal(F.relu(early), feature)


# -- how they start ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_norm_starts_with_1(name) -> None:
    norms = [m for m in BACKBONES[name](10).modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_40_2", "vgg8", "mobilenetv2"])
def test_convolutions_start_with_a_deviation_of_sqrt_2_over_their_fan_out(name) -> None:
    layers = [m for m in BACKBONES[name](10).modules() if isinstance(m, nn.Conv2d)]
    for layer in (layers[0], max(layers, key=lambda m: m.weight.numel())):
        fan_out = layer.out_channels * layer.kernel_size[0] ** 2
        tolerance = 4 / (2 * layer.weight.numel()) ** 0.5  # four standard errors
        ratio = layer.weight.std() / (2 / fan_out) ** 0.5
        assert abs(ratio.item() - 1) < tolerance


def test_classifiers_start_as_in_crds_code() -> None:
    """Of vgg and mobilenetv2 at .01, of Wide ResNets without bias; the others as torch has it."""
    for name in ("vgg8", "mobilenetv2"):
        assert abs(BACKBONES[name](100).classifier.weight.std().item() - 0.01) < 0.0003
    for name in ("vgg8", "mobilenetv2", "wrn_16_1"):
        assert (BACKBONES[name](10).classifier.bias == 0).all()
    for name in ("resnet20", "shufflenetv1", "wrn_16_2"):
        classifier = BACKBONES[name](10).classifier
        assert classifier.weight.abs().max() <= classifier.in_features**-0.5


# -- in timm -------------------------------------------------------------------------------------


def in_timms_words(name: str) -> str:
    return f"cifar_{name}" if name.startswith("vgg") else name


@pytest.mark.parametrize("name", SHAPES)
def test_timm_knows_every_network(name) -> None:
    assert timm.is_model(in_timms_words(name))
    assert not timm.models.is_model_pretrained(in_timms_words(name))


@pytest.mark.parametrize("name", KINDS)
def test_timm_makes_the_same_network(name) -> None:
    network = timm.create_model(in_timms_words(name), num_classes=10).eval()
    backbone = copy.deepcopy(fresh(name)).eval()
    network.load_state_dict(backbone.network.state_dict())
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(network(image), backbone.network(image))
    final, features = network.forward_intermediates(image, indices=2)
    torch.testing.assert_close(features[-1], backbone(image).features[-1])
    torch.testing.assert_close(network.forward_head(final), backbone(image).logits)
    about = network.pretrained_cfg
    assert network.get_submodule(about["classifier"]).out_features == network.num_classes == 10
    assert about["input_size"] == (3, 32, 32) and about["num_classes"] == 100
    assert BACKBONES["timm"](10, model=in_timms_words(name)).num_classes == 10


def test_a_name_that_timm_has_too_is_named_once() -> None:
    names = BACKBONES.names()
    assert {"vgg13", "resnet20", "cifar_vgg13"} <= set(names)
    assert len(names) == len(set(names))


def test_timms_own_vgg_stays_what_it_was() -> None:
    assert timm.model_entrypoint("vgg13").__module__ == "timm.models.vgg"
    assert BACKBONES["vgg13"].__module__ == "kdframe.backbones.vgg"


def test_a_name_of_timms_is_never_taken() -> None:
    own = timm.model_entrypoint("resnet18")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_timm("resnet18")(BACKBONES["resnet8"])
    assert timm.model_entrypoint("resnet18") is own


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_chans": 1}, ValueError, "resnet20 takes images of 3 channels, not 1"),
        ({"pretrained": True}, RuntimeError, "No pretrained weights"),
        ({"drop_rate": 0.1}, TypeError, "drop_rate"),
    ],
)
def test_what_the_network_has_not_is_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        timm.create_model("resnet20", **options)


def test_maps_that_only_other_formats_have_are_refused() -> None:
    with pytest.raises(ValueError, match="output_fmt takes NCHW, not NLC"):
        fresh("vgg8").network.forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC")


def test_two_tensors_of_one_name_are_refused() -> None:
    rules = ((r"^a\.", "b."),)
    assert list(renamed(rules, {"a.x": torch.zeros(1), "a.y": torch.zeros(1)})) == ["b.x", "b.y"]
    with pytest.raises(ValueError, match=r"has b\.x twice"):
        renamed(rules, {"a.x": torch.zeros(1), "b.x": torch.zeros(1)})
