import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.distillers import rkd as file
from kdframe.registry import DISTILLERS


def output(h: Tensor) -> Output:
    return Output(torch.empty(len(h), 0), h, [])


def rkd(student: Tensor, teacher: Tensor, **options: float) -> float:
    return DISTILLERS["rkd"](output(student), output(teacher), None, **options).item()


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def naive(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """The distance term and the angle term, by vectors."""
    d, a = [], []
    for h in (student.tolist(), teacher.tolist()):
        B = range(len(h))
        e = [[[y - x for x, y in zip(h[i], h[j], strict=True)] for j in B] for i in B]
        length = [[math.sqrt(sum(x * x for x in e[i][j])) for j in B] for i in B]
        mean = sum(map(sum, length)) / (len(h) * (len(h) - 1))
        d.append([length[i][j] / mean for i in B for j in B])
        unit = [[[x / (length[i][j] or 1) for x in e[i][j]] for j in B] for i in B]
        a.append(
            [
                sum(x * y for x, y in zip(unit[i][j], unit[i][k], strict=True))
                for i in B for j in B for k in B
            ]
        )  # fmt: skip
    distance, angle = (
        sum(huber(x - y) for x, y in zip(*pair, strict=True)) / len(pair[0]) for pair in (d, a)
    )
    return distance, angle


def test_rkd_by_hand() -> None:
    """The student's images stand on a line at 0, 1, 2; the teacher's corner is a right angle.

    Distances of the student are 1, 1, 2 with mean 4/3, of the teacher 1, 1 and r = sqrt(2).  Seen
    from 0 the others are at cosine 1 for the student, and sqrt(1/2) for the teacher; from 1 at -1
    and 0; from 2 again at 1 and sqrt(1/2).  Each pair counts twice.
    """
    student = torch.tensor([[0.0], [1.0], [2.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    r, half = math.sqrt(2), math.sqrt(0.5)
    mean = (2 + r) / 3
    distance = 2 * (2 * (0.75 - 1 / mean) ** 2 / 2 + (1.5 - r / mean) ** 2 / 2) / 9
    angle = 2 * (2 * (1 - half) ** 2 / 2 + (1 - 0) ** 2 / 2) / 27
    assert rkd(student, teacher, distance=1, angle=0) == pytest.approx(distance, rel=1e-5)
    assert rkd(student, teacher, distance=0, angle=1) == pytest.approx(angle, rel=1e-5)
    assert rkd(student, teacher) == pytest.approx(25 * distance + 50 * angle, rel=1e-5)


def test_rkd_is_the_naive_sum() -> None:
    student, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 7).double()
    teacher[3] = 40  # far off: the Huber loss is linear there
    distance, angle = naive(student, teacher)
    assert rkd(student, teacher, distance=2, angle=3) == pytest.approx(2 * distance + 3 * angle)


def test_few_corners_at_a_time_give_the_same_loss_and_gradient(monkeypatch) -> None:
    teacher, results = torch.randn(5, 3).double(), []
    h = torch.randn(5, 4).double()
    for chunk in (2**22, 50, 1):
        monkeypatch.setattr(file, "CHUNK", chunk)
        student = h.clone().requires_grad_()
        loss = DISTILLERS["rkd"](output(student), output(teacher), None)
        loss.backward()
        results.append((loss, student.grad))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_a_rotation_a_shift_and_a_scale_mean_nothing() -> None:
    student = torch.randn(6, 4, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    assert rkd(student, 3 * student @ rotation + 100) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_float32_knows_angles_far_from_the_origin(far) -> None:
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    distance, angle = naive(student.double(), teacher.double())
    assert rkd(student + far, teacher) == pytest.approx(25 * distance + 50 * angle, rel=1e-3)


@pytest.mark.parametrize(
    "student", [torch.zeros(4, 3), torch.ones(4, 3), torch.eye(4)[[0, 0, 1, 2]]]
)
def test_images_in_one_place_have_a_finite_gradient(student) -> None:
    h = student.clone().requires_grad_()
    DISTILLERS["rkd"](output(h), output(torch.randn(4, 3)), None).backward()
    assert h.grad is not None
    assert h.grad.isfinite().all()


@pytest.mark.parametrize("option", ["distance", "angle"])
def test_a_wrong_option_is_refused_by_name_and_value(option) -> None:
    with pytest.raises(ValueError, match=f"{option} takes a number from 0, not -1"):
        rkd(torch.zeros(2, 1), torch.zeros(2, 1), **{option: -1.0})
