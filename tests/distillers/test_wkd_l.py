import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

WKDL = DISTILLERS["wkd_l"]


def call(loss, student: Tensor, teacher: Tensor, target: list[int]) -> float:
    outputs = (Output(z, torch.empty(0), []) for z in (student, teacher))
    return loss(*outputs, Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)).item()


def with_rows(network: Backbone, rows: list[list[float]]) -> Backbone:
    with torch.no_grad():
        network.classifier.weight.copy_(torch.tensor(rows))
    return network


def spread(z: list[float], T: float = 1.0) -> list[float]:
    powers = [math.exp(v / T) for v in z]
    return [v / sum(powers) for v in powers]


def target(student: Tensor, teacher: Tensor, labels: list[int]) -> float:
    rows = zip(student.tolist(), teacher.tolist(), labels, strict=True)
    return -sum(spread(t)[y] * math.log(spread(s)[y]) for s, t, y in rows) / len(labels)


def test_wkd_l_by_hand(backbone) -> None:
    """Label 0; of the two classes left the student has (.5, .5) and the teacher (.8, .2).

    Moving .3 between classes at right angles costs 1 each, 0.3 in all: with little entropy the
    plan is nearly that one.
    """
    rows = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    network = with_rows(backbone((2, 2), num_classes=3), rows)
    student = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    teacher = torch.tensor([[0.5, 0.4, 0.1]], dtype=torch.float64).log()
    options = {"gamma": 10.0, "temperature": 1.0, "sharpness": 0.0, "iterations": 400}
    loss = WKDL(network, network, entropy=0.1, **options).double()
    expected = -0.5 * math.log(0.5) + 10 * 0.3
    assert call(loss, student, teacher, [0]) == pytest.approx(expected, rel=1e-3)


def test_wkd_l_is_the_naive_loop_without_the_label(backbone) -> None:
    network = backbone((2, 3, 4))
    loss = WKDL(network, network, gamma=7.0, temperature=2.0, entropy=0.3, iterations=3).double()
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    labels, w, total = [0, 4, 2, 2], network.classifier.weight.tolist(), 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        left = [k for k in range(5) if k != y]
        q_s, q_t = (spread([z[k] for k in left], 2) for z in (s, t))
        C = []
        for i in left:
            cosines = [
                sum(a * b for a, b in zip(w[i], w[j], strict=True))
                / math.hypot(*w[i])
                / math.hypot(*w[j])
                for j in left
            ]
            C.append([max(0, 1 - math.exp(-(1 - c))) + 1e-8 for c in cosines])
        K = [[math.exp(-c / 0.3) for c in row] for row in C]
        u = [1 / 4] * 4
        for _ in range(3):
            v = [q_t[j] / (sum(K[i][j] * u[i] for i in range(4)) + 1e-8) for j in range(4)]
            u = [q_s[i] / (sum(K[i][j] * v[j] for j in range(4)) + 1e-8) for i in range(4)]
        total += sum(u[i] * K[i][j] * v[j] * C[i][j] for i in range(4) for j in range(4))
    expected = target(student, teacher, labels) + 7 * total / 4
    assert call(loss, student, teacher, labels) == pytest.approx(expected, rel=1e-5)


def test_mass_is_cheaper_to_move_between_like_classes(backbone) -> None:
    rows = [
        [1.0, 1.0],
        [1.0, 0.0],
        [0.9, 0.1],
        [-1.0, 0.0],
    ]  # 1 and 2 are alike, 3 is their reverse
    network = with_rows(backbone((2, 2), num_classes=4), rows)
    loss = WKDL(network, network)
    teacher = torch.tensor([[1.0, 4.0, 0.0, 0.0]])
    like, unlike = torch.tensor([[1.0, 0.0, 4.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 4.0]])
    assert call(loss, like, teacher, [0]) < call(loss, unlike, teacher, [0])


def test_gamma_0_leaves_the_label(backbone) -> None:
    student, teacher = torch.randn(2, 4, 5)
    loss = WKDL(backbone(), backbone(), gamma=0.0)
    expected = target(student, teacher, [0, 1, 2, 3])
    assert call(loss, student, teacher, [0, 1, 2, 3]) == pytest.approx(expected, rel=1e-5)


def test_the_cost_is_of_the_weights_that_the_teacher_has_by_now_and_nothing_is_kept(
    backbone,
) -> None:
    teacher = backbone()
    early = WKDL(backbone(), teacher)
    with torch.no_grad():
        teacher.classifier.weight.normal_()
    student, taught = torch.randn(2, 4, 5)
    late = WKDL(backbone(), teacher)
    losses = [call(loss, student, taught, [0, 1, 2, 3]) for loss in (early, late)]
    assert losses[0] == losses[1]
    assert not early.state_dict() and not list(early.parameters())


WRONG = [
    {"gamma": -1.0},
    {"temperature": 0.0},
    {"sharpness": -1.0},
    {"entropy": 0.0},
    {"iterations": 0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*not {value}"):
        WKDL(backbone(), backbone(), **wrong)
