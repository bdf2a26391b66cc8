import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.distillers.classifiers import classifier_of_mean
from kdframe.registry import BACKBONES, DISTILLERS

OF_MEAN = {"catkd": ("student", "teacher"), "sdd": ("student", "teacher"), "simkd": ("teacher",)}
LINEAR = {**OF_MEAN, "srrl": ("teacher",), "wkd_l": ("teacher",)}


def sides(terms: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, whose) for name in terms for whose in terms[name]]


def built(name: str, whose: str, wrong: Backbone, right: Backbone) -> nn.Module:
    networks = (wrong, right) if whose == "student" else (right, wrong)
    return DISTILLERS[name](*networks)


class Scaled(nn.Linear):
    """A Linear that does more than its weights say."""

    def forward(self, h: Tensor) -> Tensor:
        return 2 * super().forward(h)


@pytest.mark.parametrize("head", [nn.Sequential(nn.Linear(4, 5)), Scaled(4, 5)])
@pytest.mark.parametrize(("name", "whose"), sides(LINEAR))
def test_a_classifier_that_is_not_a_linear_layer_is_refused(backbone, name, whose, head) -> None:
    wrong = backbone()
    wrong.network.head = head
    kind = type(head).__name__
    with pytest.raises(ValueError, match=f"a {whose} whose classifier is a Linear, not {kind}"):
        built(name, whose, wrong, backbone())


class Maximum(nn.Module):
    """Its embedding is the last map's largest values, of a black image also their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)


def answer(network: Maximum, image: Tensor) -> Output:
    f = network.stage(image)
    return Output(network.head(f.amax((2, 3))), f.amax((2, 3)), [f])


@pytest.mark.parametrize(("name", "whose"), sides(OF_MEAN))
def test_an_embedding_that_is_not_the_mean_of_the_last_map_is_refused(
    backbone, name, whose
) -> None:
    wrong = Backbone(Maximum(), answer, (3, 8, 8), classifier="head")
    f, h = wrong.probe().features[-1], wrong.probe().embedding
    torch.testing.assert_close(f.mean((2, 3)), h)
    message = f"it takes a {whose} whose embedding is the mean of its last map"
    with pytest.raises(ValueError, match=message):
        built(name, whose, wrong, backbone())


def test_a_class_token_is_refused_and_a_residual_network_taken() -> None:
    with pytest.raises(ValueError, match="a teacher whose embedding is the mean"):
        classifier_of_mean(BACKBONES["vit_tiny_patch16_224"](3, image_size=32))
    network = BACKBONES["cifar_resnet"](3, depth=8)
    assert classifier_of_mean(network) is network.classifier


def test_looking_at_a_network_leaves_it_as_it_was(backbone) -> None:
    network = backbone().train()
    before, drawn = network.network.stages[0][1].running_mean.clone(), torch.get_rng_state()
    classifier_of_mean(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(network.network.stages[0][1].running_mean, before)
