import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

AFD = DISTILLERS["afd"]


def output(*features: Tensor) -> Output:
    size = len(features[-1])
    return Output(torch.empty(size, 0), torch.empty(size, 0), [torch.empty(0), *features])


def indifferent(term: nn.Module) -> nn.Module:
    """Makes every attention equal: no positions, and queries of 0."""
    nn.init.zeros_(term.p_student)
    for query in term.queries:
        nn.init.zeros_(query[1].weight)
    return term


def test_afd_by_hand(backbone) -> None:
    """v is (1, 0) of the teacher, (.6, .8) and (0, 1) of two stages: distances .4 and 1.

    With p_t . p_s = (ln 3, 0) at dim = 1 the softmax is (3/4, 1/4).
    """
    term = indifferent(AFD(backbone((1, 1, 1)), backbone((1, 1)), dim=1))
    nn.init.ones_(term.p_teacher)
    term.p_student.data[0] = math.log(3)
    root = torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]]).sqrt()
    near, far, teacher = (f.view(1, 1, 1, 2).repeat(2, 1, 1, 1) for f in root)
    loss = term(output(near, far), output(teacher), None)
    assert loss.item() == pytest.approx(0.75 * (0.4**2 + 0.8**2) / 2 + 0.25 * 1, rel=1e-5)


def normed(rows: list[list[float]]) -> list[list[float]]:
    """BatchNorm of numbers (B, d) as it is drawn, in training."""
    columns = []
    for column in zip(*rows, strict=True):
        mean = sum(column) / len(column)
        variance = sum((v - mean) ** 2 for v in column) / len(column)
        columns.append([(v - mean) / math.sqrt(variance + 1e-5) for v in column])
    return [list(row) for row in zip(*columns, strict=True)]


def linear(layer: nn.Linear, rows: list[list[float]]) -> list[list[float]]:
    return [[dot(weights, row) for weights in layer.weight.tolist()] for row in rows]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_afd_is_the_naive_sum(backbone) -> None:
    """Three images, two stages of the student and two of the teacher, one of another size."""
    B, dim = 3, 4
    term = AFD(backbone((2, 2, 3)), backbone((2, 4, 2)), dim=dim).double()
    student = [torch.randn(B, c, size, size).double() for c, size in ((2, 4), (3, 2))]
    teacher = [torch.randn(B, c, 2, 2).double() for c in (4, 2)]
    k = []
    for layers, f in zip(term.keys, student, strict=True):
        rows = normed(linear(layers[0], f.mean((2, 3)).tolist()))
        k.append([[max(v, 0.0) for v in row] for row in rows])
    q = [
        normed(linear(layers[0], f.mean((2, 3)).tolist()))
        for layers, f in zip(term.queries, teacher, strict=True)
    ]
    W_k = normed(linear(term.bilinear[0], [k[s][n] for n in range(B) for s in (0, 1)]))
    p_student, p_teacher = term.p_student.tolist(), term.p_teacher.tolist()
    total = 0.0
    for n in range(B):
        for t in (0, 1):
            powers, distances = [], []
            for s in (0, 1):
                bilinear = W_k[2 * n + s][t * dim : (t + 1) * dim]
                likeness = dot(bilinear, q[t][n]) + dot(p_teacher[t], p_student[s])
                powers.append(math.exp(likeness / math.sqrt(dim)))
                energy = F.adaptive_avg_pool2d((student[s][n] ** 2).mean(0, keepdim=True), 2)
                v_student, v_teacher = energy.flatten(), (teacher[t][n] ** 2).mean(0).flatten()
                v_student, v_teacher = v_student / v_student.norm(), v_teacher / v_teacher.norm()
                distances.append(((v_student - v_teacher) ** 2).mean().item())
            total += dot([p / sum(powers) for p in powers], distances) / B
    assert term(output(*student), output(*teacher), None).item() == pytest.approx(total)


def test_one_stage_of_the_student_gets_all_attention_and_the_loss_is_at_squared(backbone) -> None:
    """``at`` with p = 2 compares the same maps."""
    term = AFD(backbone((2, 3)), backbone((2, 4)))
    student, teacher = output(torch.randn(2, 3, 4, 4)), output(torch.randn(2, 4, 4, 4))
    expected = DISTILLERS["at"](student, teacher, None, stages=(1,))
    torch.testing.assert_close(term(student, teacher, None), expected)


def test_without_a_preference_it_is_the_mean_over_the_students_stages(backbone) -> None:
    term = indifferent(AFD(backbone((2, 3, 3)), backbone((2, 4))))
    student, teacher = output(*torch.randn(2, 2, 3, 4, 4)), output(torch.randn(2, 4, 4, 4))
    terms = [DISTILLERS["at"](student, teacher, None, stages=((s, 1),)) for s in (1, 2)]
    torch.testing.assert_close(term(student, teacher, None), sum(terms) / 2)


@pytest.mark.parametrize("size", [4, 1])
def test_the_students_map_is_brought_to_the_teachers_size(backbone, size) -> None:
    term = AFD(backbone((2, 1)), backbone((2, 4)))
    student, teacher = torch.rand(2, 1, size, size), torch.randn(2, 4, 2, 2)
    squares = F.avg_pool2d(student.square(), 2) if size == 4 else student.square()
    same = squares.sqrt().expand(2, 1, 2, 2)
    expected = term(output(same), output(teacher), None)
    torch.testing.assert_close(term(output(student), output(teacher), None), expected)


def test_equal_maps_score_0_and_scales_mean_nothing(backbone) -> None:
    term = AFD(backbone((2, 3)), backbone((2, 3)))
    f = torch.randn(2, 3, 4, 4)
    assert term(output(f), output(f), None).item() == 0
    assert term(output(4 * f), output(-2 * f), None).item() == pytest.approx(0, abs=1e-12)


def test_dead_maps_have_a_finite_gradient(backbone) -> None:
    term = AFD(backbone((2, 3)), backbone((2, 4)))
    student = torch.zeros(2, 3, 3, 3, requires_grad=True)
    term(output(student), output(torch.zeros(2, 4, 3, 3)), None).backward()
    assert student.grad.isfinite().all()


def test_the_stages_of_each_network_may_be_chosen(backbone) -> None:
    term = AFD(
        backbone((2, 3, 4)), backbone((2, 5, 6)), student_stages=(-1,), teacher_stages=(0, 1)
    )
    widths = [layers[0].in_features for layers in (*term.keys, *term.queries)]
    assert widths == [4, 2, 5]
    assert term.p_student.shape == (1, 128)
    assert term.p_teacher.shape == (2, 128)


def test_one_image_is_refused(backbone) -> None:
    term = AFD(backbone((2, 3)), backbone((2, 3)))
    f = torch.randn(1, 3, 4, 4)
    with pytest.raises(ValueError, match="a batch takes 2 at least, not 1"):
        term(output(f), output(f), None)


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("dim", 0, "dim takes a number above 0, not 0"),
        ("student_stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
        ("teacher_stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        AFD(backbone(), backbone(), **{option: wrong})
