import json

import pytest
import torch

from kdframe.registry import BACKBONES
from kdframe.reports.complexity import as_dict, as_markdown, complexity, table


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [("resnet18", 11_173_962, 556_659_712), ("resnet34", 21_282_122, 1_161_458_688)],
)
def test_resnets_for_small_images_cost_what_the_report_says(
    name, parameters, multiply_adds
) -> None:
    found = complexity(BACKBONES[name](10, small_input=True))
    assert (found.parameters, found.multiply_adds) == (parameters, multiply_adds)


def test_a_resnet_by_hand() -> None:
    """ResNet-18: the convolutions of four stages, batch normalisation 2 a number, the head."""

    def block(c_in: int, c: int, size: int) -> int:
        shortcut = 0 if c_in == c else (c_in + 2) * c * size**2
        return (9 * c_in + 2 + 9 * c + 2) * c * size**2 + shortcut

    stages = [(64, 64, 32), (64, 128, 16), (128, 256, 8), (256, 512, 4)]
    by_hand = [block(c_in, c, size) + block(c, c, size) for c_in, c, size in stages]
    found = {s.name: s for s in complexity(BACKBONES["resnet18"](10, small_input=True)).stages}
    assert [found[f"layer{i}"].multiply_adds for i in (1, 2, 3, 4)] == by_hand
    assert found["conv1"].multiply_adds == 27 * 64 * 32**2
    assert found["fc"].multiply_adds == 512 * 10
    assert found["layer4"].shape == (1, 512, 4, 4)


def test_a_transformer_is_counted_with_its_attention() -> None:
    """vit_tiny on 32x32 in patches of 8: N = 17 tokens of D = 192, 12 blocks, MLP of 4 D."""
    found = complexity(BACKBONES["vit_tiny_patch16_224"](10, image_size=32, patch_size=8))
    N, D = 17, 192
    linear = (3 + 1 + 4 + 4) * N * D * D
    attention = 2 * N * N * D
    norms = 2 * 5 * N * D  # fvcore takes a layer normalisation for 5 a number
    patches = 16 * 3 * 8 * 8 * D
    assert found.multiply_adds == 12 * (linear + attention + norms) + patches + 5 * N * D + D * 10


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_stages_add_up_to_the_totals(name) -> None:
    found = complexity(BACKBONES[name](10))
    assert sum(s.parameters for s in found.stages) == found.parameters
    assert sum(s.multiply_adds for s in found.stages) == found.multiply_adds
    assert len(found.stages) > 4


def test_operators_that_are_not_counted_are_named() -> None:
    found = complexity(BACKBONES["resnet18"](10, small_input=True))
    assert found.unsupported == {"aten::add_": 8}  # the sum of each of eight blocks
    assert "Operators counted as nothing: aten::add_ (8)." in as_markdown({"student": found})


def test_a_network_in_training_is_counted_as_in_evaluation_and_left_alone() -> None:
    backbone = BACKBONES["resnet18"](10, small_input=True)
    expected = complexity(backbone.eval())
    state = {name: x.clone() for name, x in backbone.train().state_dict().items()}
    generator = torch.get_rng_state()
    assert complexity(backbone) == expected
    assert all(module.training for module in backbone.modules())
    torch.testing.assert_close(dict(backbone.state_dict()), state, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), generator, rtol=0, atol=0)


def test_the_attention_of_the_network_itself_stays_fused() -> None:
    backbone = BACKBONES["vit_tiny_patch16_224"](10, image_size=32, patch_size=8)
    before = [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")]
    complexity(backbone)
    after = [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")]
    assert after == before
    assert len(after) == 12


def test_the_report_survives_json() -> None:
    counts = {
        "student": complexity(BACKBONES["resnet18"](10, small_input=True)),
        "teacher": complexity(BACKBONES["resnet34"](10, small_input=True)),
    }
    report = json.loads(json.dumps(as_dict(counts)))
    assert report["ratio"]["multiply_adds"] == 1_161_458_688 / 556_659_712
    assert report["student"]["stages"][0] == {
        "name": "conv1",
        "shape": [1, 64, 32, 32],
        "parameters": 27 * 64,
        "multiply_adds": 27 * 64 * 32**2,
    }


def test_a_table_lines_up() -> None:
    assert table(["", "n"], [["a", "1"], ["bcd", "20"]]) == (
        "|     |  n |\n| :-- | -: |\n| a   |  1 |\n| bcd | 20 |\n"
    )
