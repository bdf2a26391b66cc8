import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

FSP = DISTILLERS["fsp"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_fsp_by_hand(backbone) -> None:
    """G is (1 3 + 2 4)/2 for the student, and (1, 0)(1, 1) and (0, 1)(1, 1), halved, else."""
    term = FSP(backbone((1, 1), (1, 1)), backbone((1, 1), (1, 1)))
    student = [torch.tensor(v).view(1, 1, 1, 2) for v in ([1.0, 2.0], [3.0, 4.0])]
    teacher = [torch.tensor(v).view(1, 1, 1, 2) for v in ([1.0, 0.0], [1.0, 1.0])]
    assert term(output(*student), output(*teacher), None).item() == (5.5 - 0.5) ** 2


def test_fsp_is_the_naive_sum_over_pairs(backbone) -> None:
    sizes = [(2, 4), (3, 2), (4, 1)]
    term = FSP(backbone((2, 3, 4)), backbone((2, 3, 4)), pairs=((0, 1), (0, -1))).double()
    student, teacher = (
        [torch.randn(2, c, side, side, dtype=torch.float64) for c, side in sizes] for _ in range(2)
    )
    total = 0.0
    for i, j in ((0, 1), (0, 2)):
        for n in range(2):
            G = []
            for maps in (student, teacher):
                side = sizes[j][1]
                first = F.avg_pool2d(maps[i], sizes[i][1] // side)[n].flatten(1).tolist()
                second = maps[j][n].flatten(1).tolist()
                G.append(
                    [
                        [sum(x * y for x, y in zip(a, b, strict=True)) / side**2 for b in second]
                        for a in first
                    ]
                )
            for row in zip(*G, strict=True):
                total += sum((a - b) ** 2 for a, b in zip(*row, strict=True)) / (
                    2 * sizes[i][0] * sizes[j][0]
                )
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


def test_no_pairs_are_each_stage_and_the_next_from_the_stem_on(backbone) -> None:
    assert FSP(backbone(), backbone()).pairs == ((0, 1), (1, 2))


def test_the_same_shuffle_of_all_maps_positions_means_nothing(backbone) -> None:
    term = FSP(backbone(), backbone(), pairs=((0, 1),))
    student, teacher = ([torch.randn(2, c, 2, 2) for c in (2, 3, 4)] for _ in range(2))
    turned = [f.flatten(2)[..., [2, 0, 3, 1]].view_as(f) for f in student]
    torch.testing.assert_close(
        term(output(*turned), output(*teacher), None),
        term(output(*student), output(*teacher), None),
    )


def test_equal_maps_score_0(backbone) -> None:
    maps = [torch.randn(2, c, 2, 2) for c in (2, 3, 4)]
    assert FSP(backbone(), backbone())(output(*maps), output(*maps), None).item() == 0


def test_a_convolution_stands_where_channels_differ_once_for_each_stage(backbone) -> None:
    term = FSP(backbone((2, 3, 4)), backbone((2, 5, 6)), pairs=((0, 1), (1, 2)))
    assert [type(r) for r in term.adapters] == [nn.Identity, nn.Conv2d, nn.Conv2d]
    student = [torch.randn(2, c, 2, 2) for c in (2, 3, 4)]
    adapted = [r(f) for r, f in zip(term.adapters, student, strict=True)]
    assert term(output(*student), output(*adapted), None).item() == 0


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (((1, 9),), r"no stage \[9\]: this network has 0 to 2"),
        ((1, 2), r"pairs takes pairs of stages, .* not \(1, 2\)"),
        (((0, 1, 2),), r"pairs takes pairs of stages, .* not \(\(0, 1, 2\),\)"),
    ],
)
def test_wrong_pairs_are_refused(backbone, pairs, message) -> None:
    with pytest.raises(ValueError, match=message):
        FSP(backbone(), backbone(), pairs=pairs)


@pytest.mark.parametrize(("mine", "theirs"), [(2, 3), (3, 2), (1, 1)])
def test_networks_without_equally_many_stages_need_pairs_by_name(backbone, mine, theirs) -> None:
    student, teacher = backbone((2, 3, 4)[:mine]), backbone((2, 3, 4)[:theirs])
    with pytest.raises(ValueError, match=f"{mine} of the student and {theirs} of the teacher"):
        FSP(student, teacher)
    assert FSP(student, teacher, pairs=((0, -1),)).pairs == ((0, -1),)
