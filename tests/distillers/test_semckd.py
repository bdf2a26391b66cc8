import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

SemCKD = DISTILLERS["semckd"]


def output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [torch.empty(0), *features])


def through(layers: nn.Module, x: list[float]) -> list[float]:
    """Linear, ReLU, Linear and a norm of 1, in floats."""
    first, _, last = layers
    for layer, activate in ((first, True), (last, False)):
        W, b = layer.weight.tolist(), layer.bias.tolist()
        x = [
            c + sum(w * v for w, v in zip(row, x, strict=True)) for row, c in zip(W, b, strict=True)
        ]
        x = [max(v, 0.0) for v in x] if activate else x
    norm = math.sqrt(sum(v * v for v in x))
    return [v / norm for v in x]


def test_semckd_by_hand(backbone) -> None:
    """One stage against two, all maps (1, 1): Q is (1,), K (1,) and (-1,), P gives 0.

    alpha = softmax(1, -1); the distances are those of 0 to the teacher's maps, 4 and 9.
    """
    term = SemCKD(backbone((1, 1)), backbone((1, 1, 1)), batch_size=4)
    for layers, sign in zip((*term.queries, *term.keys), (1.0, 1.0, -1.0), strict=True):
        nn.init.ones_(layers[0].weight)
        nn.init.constant_(layers[2].weight, sign)
        nn.init.zeros_(layers[0].bias)
        nn.init.zeros_(layers[2].bias)
    for P in term.projections:
        nn.init.zeros_(P[-1].weight)
    one = torch.ones(2, 1, 1, 1)
    alpha = math.e / (math.e + 1 / math.e)
    loss = term(output(one), output(2 * one, 3 * one), None)
    assert loss.item() == pytest.approx(alpha * 4 + (1 - alpha) * 9, rel=1e-5)


def test_semckd_is_the_naive_sum_over_all_pairs_of_stages(backbone) -> None:
    """Three images in a batch_size of 8: an image's row of likenesses ends in five zeros."""
    term = SemCKD(backbone((2, 3, 2)), backbone((2, 4)), batch_size=8).double().eval()
    student = [torch.randn(3, c, size, size).double() for c, size in ((3, 4), (2, 2))]
    teacher = [torch.randn(3, 4, 2, 2).double()]
    total = 0.0
    for n in range(3):
        for i, f_student in enumerate(student):
            vectors = {}
            for layers, f in ((term.queries[i], f_student), (term.keys[0], teacher[0])):
                M = [(f[n] * f[m]).sum().item() for m in range(3)]
                vectors[layers] = through(layers, M + 5 * [0.0])
                assert len(vectors[layers]) == 2  # a quarter of batch_size
            small = F.adaptive_avg_pool2d(f_student[n : n + 1], 2)
            x = term.projections[i](small) - teacher[0][n]
            total += sum(v * v for v in x.flatten().tolist()) / 16  # the only stage: alpha is 1
    loss = term(output(*student), output(*teacher), None)
    assert loss.item() == pytest.approx(total / (3 * 2))


def test_attention_is_the_softmax_over_the_teachers_stages_image_by_image(backbone) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 4, 5)), batch_size=12).double().eval()
    student = torch.randn(3, 3, 2, 2).double()
    teacher = [torch.randn(3, c, 2, 2).double() for c in (4, 5)]
    total = 0.0
    for n in range(3):
        vectors = []
        for layers, f in zip((*term.queries, *term.keys), (student, *teacher), strict=True):
            M = [(f[n] * f[m]).sum().item() for m in range(3)]
            vectors.append(through(layers, M + 9 * [0.0]))
        query, *keys = vectors
        powers = [math.exp(sum(a * b for a, b in zip(query, k, strict=True))) for k in keys]
        for j, f_teacher in enumerate(teacher):
            x = term.projections[j](student[n : n + 1]) - f_teacher[n]
            total += powers[j] / sum(powers) * (x**2).mean().item() / 3
    assert term(output(student), output(*teacher), None).item() == pytest.approx(total)


def test_a_projection_is_twice_the_teachers_channels_wide(backbone) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 5)))
    shapes = [tuple(p.shape) for p in term.projections[0].parameters() if p.dim() == 4]
    assert shapes == [(10, 3, 1, 1), (10, 10, 3, 3), (5, 10, 1, 1)]


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled(backbone, larger) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 4))).eval()
    sizes = (4, 2) if larger == "student" else (2, 4)
    student, teacher = torch.randn(2, 3, sizes[0], sizes[0]), torch.randn(2, 4, sizes[1], sizes[1])
    small = [F.adaptive_avg_pool2d(f, 2) for f in (student, teacher)]
    expected = (term.projections[0](small[0]) - small[1]).square().mean()
    torch.testing.assert_close(term(output(student), output(teacher), None), expected)


def test_a_student_that_is_projected_onto_the_teacher_scores_0(backbone) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 4))).eval()
    student = torch.randn(2, 3, 3, 3)
    assert term(output(student), output(term.projections[0](student)), None).item() == 0


def test_dead_maps_have_a_finite_gradient(backbone) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 4)))
    student = torch.zeros(2, 3, 3, 3, requires_grad=True)
    term(output(student), output(torch.zeros(2, 4, 3, 3)), None).backward()
    assert student.grad.isfinite().all()


def test_the_stages_of_each_network_may_be_chosen(backbone) -> None:
    term = SemCKD(
        backbone((2, 3, 4)), backbone((2, 5, 6)), student_stages=(-1,), teacher_stages=(0, 1)
    )
    pairs = [(P[0].in_channels, P[-1].out_channels) for P in term.projections]
    assert pairs == [(4, 2), (4, 5)]


def test_a_batch_above_batch_size_is_refused(backbone) -> None:
    term = SemCKD(backbone((2, 3)), backbone((2, 4)), batch_size=4)
    with pytest.raises(ValueError, match="batch_size takes a batch's 5 images, not 4"):
        term(output(torch.randn(5, 3, 2, 2)), output(torch.randn(5, 4, 2, 2)), None)


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("batch_size", 3, "batch_size takes an int from 4, not 3"),
        ("student_stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
        ("teacher_stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        SemCKD(backbone(), backbone(), **{option: wrong})
