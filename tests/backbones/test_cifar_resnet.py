import pytest
import torch

from kdframe.registry import BACKBONES


def count(depth: int, width: int, stem: int, classes: int) -> int:
    """Weights of convolutions, 2 a channel for BatchNorm, and the classifier with its bias."""
    total, channels = 3 * 9 * stem + 2 * stem, stem
    for stage in (1, 2, 4):
        wide = stage * width
        for _ in range((depth - 2) // 6):
            total += 9 * channels * wide + 9 * wide * wide + 4 * wide
            if channels != wide:
                total += channels * wide + 2 * wide  # the shortcut
            channels = wide
    return total + channels * classes + classes


@pytest.mark.parametrize(
    ("depth", "width", "stem", "published"),
    [
        (20, 16, 16, 278_324),
        (8, 64, 32, 1_233_540),
        (32, 64, 32, 7_433_860),
    ],
)
def test_the_parameters_are_those_of_the_papers(depth, width, stem, published) -> None:
    network = BACKBONES["cifar_resnet"](100, depth=depth, width=width, stem=stem)
    assert sum(p.numel() for p in network.parameters()) == published
    assert count(depth, width, stem, 100) == published


def test_the_features_are_the_stem_and_three_stages() -> None:
    network = BACKBONES["cifar_resnet"](10, depth=8, width=8, stem=6)
    assert network.shapes == [(6, 32, 32), (8, 32, 32), (16, 16, 16), (32, 8, 8)]
    network.eval()
    image = torch.randn(2, 3, 32, 32)
    output = network(image)
    torch.testing.assert_close(output.logits, network.network(image))
    torch.testing.assert_close(output.embedding, output.features[-1].mean((2, 3)))


def test_a_stride_of_2_halves_every_stage() -> None:
    network = BACKBONES["cifar_resnet"](10, depth=8, width=8, stride=2)
    assert network.shapes == [(8, 16, 16), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 18}, r"depth takes 6n \+ 2 .* not 18"),
        ({"depth": 2}, r"depth takes 6n \+ 2 .* not 2"),
        ({"stem": 7}, "an even number above 0, not 16 and 7"),
        ({"stride": 3}, "stride takes 1 or 2, not 3"),
        ({"width": 0}, "an even number above 0, not 0 and 0"),
    ],
)
def test_a_network_that_is_not_there_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BACKBONES["cifar_resnet"](10, **options)
