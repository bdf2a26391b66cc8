import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS


def term(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    outputs = (Output(z, torch.empty(len(z), 0), []) for z in (student, teacher))
    return DISTILLERS[name](*outputs, None)


def test_hard_label_by_hand() -> None:
    """Student (3, 1)/4 twice; the teacher decides for the first class, then for the second."""
    student = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    teacher = torch.tensor([[0.2, 0.1], [-9.0, 5.0]])
    loss = term("hard_label", student, teacher)
    torch.testing.assert_close(loss, torch.tensor((math.log(4 / 3) + math.log(4)) / 2))


def test_only_the_teachers_first_choice_means_something() -> None:
    student = torch.randn(4, 5, dtype=torch.float64)
    teacher = torch.tensor(
        [[9.0, 1, 2, 3, 4], [0, 5, 1, 1, 1], [0, 0, 0, 1, 0], [-1, -1, -1, -1, 0]]
    )
    loss = term("hard_label", student, teacher).item()
    assert loss == pytest.approx(term("hard_label", student, (3 * teacher).exp()).item())
    total = 0.0
    for z, y in zip(student.tolist(), (0, 1, 3, 4), strict=True):
        total += math.log(sum(math.exp(v) for v in z)) - z[y]
    assert loss == pytest.approx(total / 4)


def test_it_is_soft_target_ce_of_a_teacher_that_is_sure() -> None:
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    outputs = [Output(z, torch.empty(4, 0), []) for z in (student, 1e4 * teacher)]
    sure = DISTILLERS["soft_target_ce"](*outputs, None, temperature=1.0)
    torch.testing.assert_close(term("hard_label", student, teacher), sure)


def test_a_student_that_is_sure_of_the_teachers_decision_scores_0() -> None:
    teacher = torch.tensor([[2.0, 1.0, 0.0]])
    assert term("hard_label", 1e3 * teacher, teacher).item() == 0
    assert term("hard_label", teacher, teacher).item() > 0
