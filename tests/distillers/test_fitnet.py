import math

import pytest
import torch
from torch import nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

FitNet = DISTILLERS["fitnet"]


def output(feature: torch.Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [feature])


def test_fitnet_by_hand(backbone) -> None:
    """g doubles and adds 1: (0, 2) -> (1, 5), BatchNorm makes it (-2, 2)/sqrt(4 + 1e-5), ReLU."""
    term = FitNet(backbone((1,)), backbone((1,)), stage=0)
    nn.init.constant_(term.regressor[0].weight, 2.0)
    nn.init.constant_(term.regressor[0].bias, 1.0)
    student = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    teacher = torch.tensor([3.0, 4.0]).view(2, 1, 1, 1)
    expected = ((0 - 3) ** 2 + (2 / math.sqrt(4 + 1e-5) - 4) ** 2) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("student_stride", "teacher_stride", "layer", "kernel"),
    [
        (2, 2, nn.Conv2d, (1, 1)),  # 4 -> 4
        (1, 2, nn.Conv2d, (3, 3)),  # 8 -> 4, stride 2
        (2, 1, nn.ConvTranspose2d, (4, 4)),  # 4 -> 8, stride 2
        (1, 3, nn.Conv2d, (6, 6)),  # 8 -> 3, a kernel of 1 + 8 - 3
    ],
)
def test_the_regressor_brings_a_map_to_the_teachers_shape(
    backbone, student_stride, teacher_stride, layer, kernel
) -> None:
    student, teacher = backbone((3,), (student_stride,)), backbone((5,), (teacher_stride,))
    regressor = FitNet(student, teacher, stage=0).regressor
    assert isinstance(regressor[0], layer)
    assert regressor[0].kernel_size == kernel
    assert regressor(torch.randn(2, *student.shapes[0])).shape == (2, *teacher.shapes[0])


def test_a_teachers_map_that_no_convolution_leads_to_is_refused_with_both_shapes(backbone) -> None:
    with pytest.raises(ValueError, match=r"not \(5, 8, 8\) for \(3, 3, 3\)"):
        FitNet(backbone((3,), (3,)), backbone((5,), (1,)), stage=0)


def test_a_stage_that_is_not_there_is_refused(backbone) -> None:
    with pytest.raises(ValueError, match=r"no stage \[3\]: this network has 0 to 2"):
        FitNet(backbone(), backbone(), stage=3)


def test_a_student_that_the_regressor_maps_onto_the_teacher_scores_0(backbone) -> None:
    term = FitNet(backbone((3,)), backbone((5,)), stage=0).eval()
    student = torch.randn(2, 3, 8, 8)
    assert term(output(student), output(term.regressor(student)), None).item() == 0
