import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

Feature = DISTILLERS["feature"]


def output(*features: torch.Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


@pytest.mark.parametrize(("reduction", "expected"), [("mean", (1 + 9) / 4), ("batch", (1 + 9) / 2)])
def test_feature_by_hand(backbone, reduction, expected) -> None:
    """Two images of two values each, that differ by 1 in one and by 3 in another."""
    term = Feature(backbone((1,)), backbone((1,)), stages=(0,), reduction=reduction)
    student, teacher = torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 1, 2)
    student[0, 0, 0, 0], teacher[1, 0, 0, 1] = 1, 3
    assert term(output(student), output(teacher), None).item() == expected


def test_feature_is_the_naive_sum_over_stages_without_the_stem(backbone) -> None:
    term = Feature(backbone((2, 3, 4)), backbone((2, 5, 4))).double()
    r, same = term.adapters
    assert isinstance(same, nn.Identity)
    student = [torch.randn(2, c, 3, 3, dtype=torch.float64) for c in (2, 3, 4)]
    teacher = [torch.randn(2, c, 3, 3, dtype=torch.float64) for c in (2, 5, 4)]
    W, b = r.weight[:, :, 0, 0].tolist(), r.bias.tolist()
    f_student, f_teacher, total = student[1].tolist(), teacher[1].tolist(), 0.0
    for n in range(2):
        for o in range(5):
            for h in range(3):
                for w in range(3):
                    mapped = b[o] + sum(W[o][c] * f_student[n][c][h][w] for c in range(3))
                    total += (mapped - f_teacher[n][o][h][w]) ** 2 / (2 * 5 * 9)
    total += (student[2] - teacher[2]).square().sum().item() / (2 * 4 * 9)
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = Feature(backbone((3,)), backbone((3,)), stages=(0,))
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    maps = (large, small) if larger == "student" else (small, large)
    expected = (F.avg_pool2d(large, 2) - small).square().mean()
    torch.testing.assert_close(term(output(maps[0]), output(maps[1]), None), expected)


def test_equal_maps_score_0(backbone) -> None:
    maps = [torch.randn(2, c, 2, 2) for c in (2, 3, 4)]
    assert Feature(backbone(), backbone())(output(*maps), output(*maps), None).item() == 0


def test_the_adapter_conv_is_everywhere_and_none_nowhere(backbone) -> None:
    kinds = {
        adapter: [type(a) for a in Feature(backbone(), backbone(), adapter=adapter).adapters]
        for adapter in ("auto", "none", "conv")
    }
    assert kinds["auto"] == kinds["none"] == [nn.Identity, nn.Identity]
    assert kinds["conv"] == [nn.Conv2d, nn.Conv2d]


def test_unequal_channels_without_an_adapter_are_refused_with_both_shapes(backbone) -> None:
    with pytest.raises(ValueError, match=r"student's \(3, 4, 4\) and the teacher's \(5, 4, 4\)"):
        Feature(backbone((2, 3, 4)), backbone((2, 5, 4)), adapter="none")


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("adapter", "linear", "adapter takes auto, none or conv, not 'linear'"),
        ("reduction", "sum", "reduction takes mean or batch, not 'sum'"),
        ("stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        Feature(backbone(), backbone(), **{option: wrong})
