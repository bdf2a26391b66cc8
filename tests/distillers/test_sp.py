import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def sp(student: list[Tensor], teacher: list[Tensor], **options: object) -> float:
    outputs = (
        Output(torch.empty(len(maps[0]), 0), torch.empty(0), maps) for maps in (student, teacher)
    )
    return DISTILLERS["sp"](*outputs, None, **options).item()


def test_sp_by_hand() -> None:
    """Student's images (1, 0) and (1, 1): rows (1, 1) and (1, 2); the teacher's: (1, 0), (0, 4)."""
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 2, 1, 1)
    teacher = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(2, 1, 1, 2)
    a, b = 1 / math.sqrt(2), 1 / math.sqrt(5)
    squares = (a - 1) ** 2 + a**2 + b**2 + (2 * b - 1) ** 2
    assert sp([student], [teacher]) == pytest.approx(squares / 4, rel=1e-5)


def test_sp_is_the_naive_sum_over_stages() -> None:
    student = [torch.randn(3, c, 2, 2, dtype=torch.float64) for c in (1, 2, 3)]
    teacher = [torch.randn(3, c, 4, 4, dtype=torch.float64) for c in (2, 3, 5)]
    total = 0.0
    for i in (1, 2):
        G = []
        for f in (student[i].flatten(1).tolist(), teacher[i].flatten(1).tolist()):
            rows = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in f] for a in f]
            G.append([[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows])
        total += sum((G[0][m][n] - G[1][m][n]) ** 2 for m in range(3) for n in range(3)) / 9
    assert sp(student, teacher, stages=(1, -1)) == pytest.approx(total)


def test_a_rotation_and_a_scale_of_all_maps_mean_nothing() -> None:
    student = torch.randn(3, 4, 1, 1, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    turned = 7 * (student.flatten(1) @ rotation).view(3, 4, 1, 1)
    assert sp([student], [turned]) == pytest.approx(0, abs=1e-12)
    assert sp([student], [student]) == 0
