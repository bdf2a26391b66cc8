import copy
import functools

import pytest
import timm
import torch
from torch import nn

from kdframe.backbones import Backbone
from kdframe.registry import BACKBONES

FAMILIES = {  # small members of unlike families, with how to make them smaller still
    "resnet10t": {},
    "dla46_c": {},  # a convolution for a classifier
    "mobilenetv3_small_050": {},  # a hidden layer in the head
    "convnext_atto": {},
    "densenet121": {},
    "repvgg_a0": {},
    "regnetx_002": {},
    "vit_tiny_patch16_224": {"image_size": 64},
    "deit_tiny_distilled_patch16_224": {"image_size": 64},  # two classifiers
    "swin_tiny_patch4_window7_224": {"image_size": 64},
    "levit_128s": {},  # two classifiers, each behind a BatchNorm
    "xcit_nano_12_p16_224": {},
}


@functools.cache
def built(name: str) -> Backbone:
    network = BACKBONES[name](7, **FAMILIES[name])
    with torch.no_grad():
        for p in network.parameters():  # timm starts many a branch at 0, where nothing shows
            p.add_(0.05 * torch.randn_like(p))
    return network


@pytest.fixture(params=FAMILIES)
def backbone(request) -> Backbone:
    network = copy.deepcopy(built(request.param)).eval()
    if "image_size" not in FAMILIES[request.param] and request.param != "levit_128s":
        network.input_size = (3, 64, 64)
    return network


def test_an_output_is_the_networks_own_answer_and_maps_of_the_probed_shapes(backbone) -> None:
    image = torch.randn(2, *backbone.input_size)
    with torch.no_grad():
        output = backbone(image)
        torch.testing.assert_close(output.logits, backbone.network(image))
    assert output.logits.shape == (2, backbone.num_classes) == (2, 7)
    assert output.embedding.shape == (2, backbone.embedding_size)
    assert [tuple(f.shape) for f in output.features] == [(2, *shape) for shape in backbone.shapes]
    assert backbone.channels_of((-1,)) == [backbone.shapes[-1][0]]


def test_no_later_layer_writes_into_a_feature(backbone) -> None:
    """A pass that ends with a stage gives what the stage gave before anything came after it."""
    image = torch.randn(1, *backbone.input_size)
    with torch.no_grad():
        for i, feature in enumerate(backbone(image).features):
            (alone,) = backbone.network.forward_intermediates(
                image, indices=[i], stop_early=True, intermediates_only=True, output_fmt="NCHW"
            )
            torch.testing.assert_close(feature, alone, rtol=0, atol=0)


def test_the_classifier_makes_the_logits_of_the_embedding(backbone) -> None:
    """Two classifiers' logits are averaged."""
    output = backbone(torch.randn(2, *backbone.input_size))
    names = backbone.network.pretrained_cfg["classifier"]
    classifiers = [
        backbone.network.get_submodule(n) for n in [names, [names]][isinstance(names, str)]
    ]
    parts = output.embedding.chunk(len(classifiers), dim=1)
    logits = [p @ c.weight.flatten(1).T + c.bias for p, c in zip(parts, classifiers, strict=True)]
    torch.testing.assert_close(torch.stack(logits).mean(0), output.logits, rtol=1e-4, atol=1e-5)


def test_probing_leaves_modes_and_statistics_as_they_were(backbone) -> None:
    backbone.train()
    first = next(iter(backbone.network.children()))
    first.eval()
    modes = [module.training for module in backbone.modules()]
    state = copy.deepcopy(backbone.state_dict())
    assert backbone.shapes
    assert [module.training for module in backbone.modules()] == modes
    torch.testing.assert_close(backbone.state_dict(), state, rtol=0, atol=0)


def test_the_gradient_of_an_embedding_reaches_the_first_layer() -> None:
    network = copy.deepcopy(built("resnet10t"))
    network(torch.randn(2, 3, 32, 32)).embedding.sum().backward()
    assert next(network.parameters()).grad is not None
    copy.deepcopy(network)  # nothing of the pass is kept, which a copy could not take along


def test_a_copy_keeps_its_own_embedding() -> None:
    network = copy.deepcopy(built("resnet10t")).eval()
    twin = copy.deepcopy(network)
    image = torch.randn(1, 3, 32, 32)
    nn.init.zeros_(twin.network.conv1[0].weight)
    torch.testing.assert_close(network(image).logits, network.network.fc(network(image).embedding))
    assert not torch.equal(network(image).embedding, twin(image).embedding)


def test_a_state_dict_is_timms_own() -> None:
    assert list(built("resnet10t").network.state_dict()) == list(
        timm.create_model("resnet10t", num_classes=7).state_dict()
    )


def test_an_output_compiles_whole() -> None:
    network = copy.deepcopy(built("resnet10t")).eval()
    image = torch.randn(1, 3, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image).embedding, network(image).embedding)


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet18", 11_173_962), ("resnet34", 21_282_122)]
)
def test_a_small_stem_keeps_the_image_whole(name, parameters) -> None:
    network = BACKBONES[name](10, small_input=True)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.shapes == [
        (64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)
    ]  # fmt: skip
    assert network.pretrained is None  # published weights are of the other stem


def test_a_name_is_the_part_timm_with_that_model() -> None:
    assert BACKBONES.options("resnet18") == {
        k: v for k, v in BACKBONES.options("timm").items() if k != "model"
    }
    assert isinstance(BACKBONES["timm"](3, model="resnet10t").network, timm.models.ResNet)


def test_a_patch_size_sets_the_maps_of_a_vit() -> None:
    network = BACKBONES["vit_tiny_patch16_224"](10, image_size=32, patch_size=8)
    assert network.input_size == (3, 32, 32)
    assert network.shapes == [(192, 4, 4)] * 12


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no stage \[9\]: this network has 0 to 4"):
        built("resnet10t").channels_of((1, 9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnt18"}, "timm has no 'resnt18'. Did you mean resnet18?"),
        ({"model": "resnet10t", "small_input": True}, "a stem of one convolution, and resnet10t"),
        ({"model": "convnext_atto", "small_input": True}, "and convnext_atto has another"),
        ({"model": "resnet10t", "image_size": 64}, "can't make resnet10t with {'img_size': 64}"),
        ({"model": "vit_tiny_patch16_224", "image_size": 8}, r"an image of \(8, 8\)"),
        ({"model": "resnet18.nonsense"}, "can't make resnet18.nonsense"),
        ({"model": "volo_d1_224"}, "a head that no single embedding leads to"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused_in_a_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BACKBONES["timm"](10, **options)
