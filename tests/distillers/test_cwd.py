import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

CWD = DISTILLERS["cwd"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_cwd_by_hand(backbone) -> None:
    """Two positions, T = 2: the teacher's (2, 0) gives p = e / (e + 1), the student's a half."""
    term = CWD(backbone((1,)), backbone((1,)), temperature=2.0)
    p = math.e / (math.e + 1)
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    student, teacher = (torch.tensor(v).view(1, 1, 1, 2) for v in ([0.0, 0.0], [2.0, 0.0]))
    assert term(output(student), output(teacher), None).item() == pytest.approx(4 * kl, rel=1e-5)


def test_cwd_is_the_naive_mean_over_images_and_channels(backbone) -> None:
    T = 3.0
    term = CWD(backbone((2, 3)), backbone((2, 3)), stages=(0, 1), temperature=T).double()
    student, teacher = (
        [torch.randn(2, c, 2, 3, dtype=torch.float64) for c in (2, 3)] for _ in range(2)
    )
    total = 0.0
    for f_student, f_teacher in zip(student, teacher, strict=True):
        rows = [f.flatten(2).flatten(0, 1).tolist() for f in (f_student, f_teacher)]
        for row in zip(*rows, strict=True):
            q, p = ([math.exp(v / T) for v in values] for values in row)
            for a, b in zip(p, q, strict=True):
                total += T**2 * a / sum(p) * math.log(a / sum(p) * sum(q) / b) / len(rows[0])
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


def test_a_number_added_to_a_channel_means_nothing(backbone) -> None:
    term = CWD(backbone(), backbone()).double()
    student, teacher = torch.randn(2, 2, 4, 2, 2, dtype=torch.float64)
    shift = torch.randn(2, 4, 1, 1, dtype=torch.float64)
    loss = term(output(student), output(teacher), None)
    torch.testing.assert_close(term(output(student + shift), output(teacher), None), loss)
    assert term(output(student + shift), output(student), None).item() == pytest.approx(
        0, abs=1e-12
    )


def test_maps_of_one_position_score_0(backbone) -> None:
    term = CWD(backbone(), backbone())
    student, teacher = torch.randn(2, 2, 4, 1, 1)
    assert term(output(student), output(teacher), None).item() == 0


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = CWD(backbone((3,)), backbone((3,)))
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    maps, pooled = [small, large], [small, F.avg_pool2d(large, 2)]
    if larger == "student":
        maps, pooled = maps[::-1], pooled[::-1]
    torch.testing.assert_close(
        term(output(maps[0]), output(maps[1]), None),
        term(output(pooled[0]), output(pooled[1]), None),
    )


def test_a_convolution_stands_where_channels_differ(backbone) -> None:
    term = CWD(backbone((2, 3)), backbone((2, 5)), stages=(0, 1))
    assert [type(r) for r in term.adapters] == [nn.Identity, nn.Conv2d]
    student = [torch.randn(2, c, 2, 2) for c in (2, 3)]
    adapted = [r(f) for r, f in zip(term.adapters, student, strict=True)]
    assert term(output(*student), output(*adapted), None).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature takes a number above 0, not 0.0"),
        ({"stages": (7,)}, r"no stage \[7\]"),
    ],
)
def test_a_wrong_option_is_refused(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        CWD(backbone(), backbone(), **wrong)
