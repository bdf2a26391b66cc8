import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def irg(student: Output, teacher: Output, **options: object) -> float:
    return DISTILLERS["irg"](student, teacher, None, **options).item()


def rows(h: list[float]) -> Tensor:
    """Images of one channel and one position."""
    return torch.tensor(h).view(-1, 1, 1, 1)


def test_irg_by_hand() -> None:
    """Three images of one number each, at 0, 1, 2 and at 0, 1, 1 (student), 0, 0, 1 (teacher)."""
    logits = torch.zeros(3, 2)
    student = Output(
        logits, torch.tensor([[0.0], [1], [2]]), [rows([0.0, 1, 2]), rows([0.0, 3, 1])]
    )
    teacher = Output(
        logits + 3, torch.tensor([[0.0], [1], [2]]), [rows([0.0, 1, 2]), rows([0.0, 3, 3])]
    )
    only = {"stages": (0, 1), "vertices": 0.0, "edges": 0.0, "transformation": 0.0}
    assert irg(student, teacher, **only | {"vertices": 2.0}) == pytest.approx(2 * 9)
    # the last stage's distances: 9, 1, 4 of 9 against 9, 9, 0 of 9, each twice among nine
    edges = 2 * ((1 / 9 - 1) ** 2 + (4 / 9) ** 2) / 9 / 3
    assert irg(student, teacher, **only | {"edges": 1.0}) == pytest.approx(edges, rel=1e-5)
    # moved by 0, 4, 1 of 4 against 0, 4, 1 of 4
    assert irg(student, teacher, **only | {"transformation": 1.0}) == pytest.approx(0, abs=1e-10)
    still = teacher._replace(features=[rows([0.0, 1, 2]), rows([0.0, 3, 2])])
    moved = (1 / 4) ** 2 / 3
    assert irg(student, still, **only | {"transformation": 1.0}) == pytest.approx(moved, rel=1e-5)


def distances(h: list[list[float]]) -> list[float]:
    squares = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a in h for b in h]
    return [s / max(squares) for s in squares]


def mean_square(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def test_irg_is_the_naive_sum() -> None:
    def output(shapes: list[tuple[int, ...]]) -> Output:
        maps = [torch.randn(4, *s, dtype=torch.float64) for s in shapes]
        return Output(torch.randn(4, 3).double(), torch.randn(4, shapes[-1][0]).double(), maps)

    student, teacher = output([(1, 4, 4), (2, 4, 4), (4, 2, 2)]), output([(1, 2, 2)] * 3)
    nodes = [mean_square(*(distances(o.embedding.tolist()) for o in (student, teacher)))]
    for i in (1, 2):
        flat = [o.features[i].flatten(1).tolist() for o in (student, teacher)]
        nodes.append(mean_square(*map(distances, flat)))
    f, g = student.features[1].tolist(), student.features[2].tolist()
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    moves = []
    for n in range(4):
        total = 0.0
        for c in range(2):
            for y, x in corners:
                pooled = sum(f[n][c][2 * y + v][2 * x + w] for v, w in corners) / 4
                total += (pooled - (g[n][2 * c][y][x] + g[n][2 * c + 1][y][x]) / 2) ** 2
        moves.append(total)
    theirs = [
        sum(x**2 for x in d.flatten().tolist()) for d in teacher.features[1] - teacher.features[2]
    ]
    relative = [[m / max(ms) for m in ms] for ms in (moves, theirs)]
    z = [o.logits.flatten().tolist() for o in (student, teacher)]
    expected = 0.1 * mean_square(*z) + 5 * sum(nodes) / 3 + 5 * mean_square(*relative)
    assert irg(student, teacher) == pytest.approx(expected)


def test_equal_outputs_score_0_and_a_scale_of_the_maps_means_nothing_to_edges() -> None:
    maps = [torch.randn(4, c, 2, 2, dtype=torch.float64) for c in (2, 3)]
    student = Output(torch.randn(4, 3).double(), torch.randn(4, 3).double(), maps)
    assert irg(student, student) == 0
    scaled = Output(student.logits, 2 * student.embedding, [9 * f for f in maps])
    assert irg(student, scaled) == pytest.approx(0, abs=1e-12)


def test_dead_maps_have_a_finite_gradient() -> None:
    f = torch.zeros(3, 2, 2, 2, requires_grad=True)
    h = torch.zeros(3, 2, requires_grad=True)
    teacher = Output(torch.zeros(3, 2), torch.randn(3, 2), [torch.randn(3, 2, 2, 2)] * 2)
    DISTILLERS["irg"](Output(torch.zeros(3, 2), h, [f, f]), teacher, None, stages=(0, 1)).backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (f, h))


@pytest.mark.parametrize("option", ["vertices", "edges", "transformation"])
def test_a_wrong_option_is_refused_by_name_and_value(option) -> None:
    output = Output(torch.zeros(2, 2), torch.zeros(2, 1), [rows([0.0, 1])] * 2)
    with pytest.raises(ValueError, match=f"{option} takes a number from 0, not nan"):
        irg(output, output, **{option: math.nan})


def test_one_stage_has_nowhere_to_go() -> None:
    output = Output(torch.zeros(2, 2), torch.zeros(2, 1), [rows([0.0, 1])] * 2)
    with pytest.raises(ValueError, match=r"stages takes two stages at least, not \(1,\)"):
        irg(output, output, stages=(1,))


def test_channels_that_do_not_divide_are_averaged_too() -> None:
    student = Output(
        torch.zeros(3, 2), torch.randn(3, 3), [torch.randn(3, c, 2, 2) for c in (2, 3)]
    )
    loss = irg(student, student._replace(features=[f + 1 for f in student.features[::-1]]))
    assert math.isfinite(loss)
    wide, narrow = student.features[1], student.features[0]
    mixed = torch.stack((wide[:, :2].mean(1), wide[:, 1:].mean(1)), dim=1)
    squares = F.mse_loss(mixed, narrow, reduction="none").flatten(1).sum(1)
    same = student._replace(features=[narrow, mixed])
    moves = irg(student, same, stages=(0, 1), vertices=0.0, edges=0.0)
    assert squares.max() > 0
    assert moves == pytest.approx(0, abs=1e-9)
