import pytest
import torch
from torch import nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

AB = DISTILLERS["ab"]


def output(*features: torch.Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def test_ab_by_hand(backbone) -> None:
    """Two images of two neurons: the teacher's are (2, -1) and (0, 3), the margin is 1."""
    term = AB(backbone((1,)), backbone((1,)), stages=(0,))
    teacher = torch.tensor([[2.0, -1.0], [0.0, 3.0]]).view(2, 1, 1, 2)
    student = torch.tensor([[0.5, -0.25], [-4.0, -1.0]]).view(2, 1, 1, 2)
    # .5 lacks .5 to 1; -.25 is .75 above -1; -4 is where 0, not active, wants it; -1 lacks 2
    expected = (0.5**2 + 0.75**2 + 0 + 2**2) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected)


def test_ab_is_the_naive_sum_of_the_authors_two_cases(backbone) -> None:
    term = AB(backbone((2, 3, 4)), backbone((2, 5, 4)), margin=0.7).double()
    assert [type(r) for r in term.connectors] == [nn.Sequential, nn.Identity]
    student = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 3, 4)]
    teacher = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (2, 5, 4)]
    conv = term.connectors[0][0].weight[:, :, 0, 0]
    mapped = torch.einsum("oc,bchw->bohw", conv, student[1])
    mean, var = mapped.mean((0, 2, 3), keepdim=True), mapped.var((0, 2, 3), False, keepdim=True)
    normed = (mapped - mean) / (var + 1e-5).sqrt()
    total, m = 0.0, 0.7
    for weight, ours, theirs in ((0.5, normed, teacher[1]), (1.0, student[2], teacher[2])):
        for s, t in zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True):
            if s > -m and t <= 0:
                total += weight * (s + m) ** 2 / 3
            if s <= m and t > 0:
                total += weight * (s - m) ** 2 / 3
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


def test_a_student_at_0_pays_the_squared_margin_a_neuron_half_as_much_a_stage_before(
    backbone,
) -> None:
    term = AB(backbone(), backbone(), margin=3.0, stages=(0, 1, 2))
    maps = [torch.randn(2, c, n, n) for c, n in ((2, 8), (3, 4), (4, 2))]
    loss = term(output(*map(torch.zeros_like, maps)), output(*maps), None)
    assert loss.item() == pytest.approx(9 * (2 * 64 / 4 + 3 * 16 / 2 + 4 * 4))


def test_only_the_signs_of_the_teacher_matter(backbone) -> None:
    term = AB(backbone(), backbone())
    student, teacher = ([torch.randn(2, c, 2, 2) for c in (2, 3, 4)] for _ in range(2))
    sizes = [torch.rand_like(f) + 0.1 for f in teacher]
    loss = term(output(*student), output(*teacher), None)
    scaled = (f * size for f, size in zip(teacher, sizes, strict=True))
    torch.testing.assert_close(term(output(*student), output(*scaled), None), loss)


def test_neurons_on_the_teachers_side_a_margin_away_score_0(backbone) -> None:
    term = AB(backbone(), backbone())
    teacher = [torch.randn(2, c, 2, 2) for c in (2, 3, 4)]
    student = [f.sign() * (1 + torch.rand_like(f)) for f in teacher]
    assert term(output(*student), output(*teacher), None).item() == 0


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = AB(backbone((3,)), backbone((3,)), stages=(0,))
    small, large = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)
    pooled = large.view(2, 3, 2, 2, 2, 2).mean((3, 5))
    maps, equal = ((large, small), (pooled, small))
    if larger == "teacher":
        maps, equal = maps[::-1], equal[::-1]
    expected = term(output(equal[0]), output(equal[1]), None)
    torch.testing.assert_close(term(output(maps[0]), output(maps[1]), None), expected)


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("margin", 0.0, r"margin takes a number above 0, not 0\.0"),
        ("stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        AB(backbone(), backbone(), **{option: wrong})
