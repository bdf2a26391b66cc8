"""The reused teacher classifier: Chen et al. 2022, arXiv:2203.14001, after their code."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.classifiers import classifier_of_mean
from kdframe.distillers.maps import pooled, same_size
from kdframe.registry import DISTILLERS


@DISTILLERS.register("simkd", needs=("teacher_classifier",))
class SimKD(nn.Module):
    """Projects the student's last map onto the teacher's; the teacher's classifier is reused.

        L = mean( (P(f_student) - f_teacher)^2 )

    P is convolutions of 1x1, 3x3 and 1x1 without bias, each with BatchNorm and ReLU, C_teacher
    over ``factor`` wide.  Maps of different size: the larger is average-pooled, the student's
    before P.  The mean is over images and elements.  0 where P(f_student) is f_teacher.

    It is meant to be the only term.  What is deployed is the student, P and the teacher's
    classifier, and all three are counted.  So is the student's own classifier, which stays as it
    was drawn and gives nothing (the paper leaves it out: C_student K + K parameters fewer).

    Raises:
        ValueError: a factor that leaves no channel; a teacher whose embedding isn't its last map's
            mean, or whose classifier isn't linear.

    Published: 1, alone.
    """

    def __init__(self, student: Backbone, teacher: Backbone, *, factor: int = 2) -> None:
        super().__init__()
        maps = student.probe().features[-1], teacher.probe().features[-1]
        self.size = same_size(*maps)[0].shape[2:]
        C, C_teacher = (f.shape[1] for f in maps)
        if not 1 <= factor <= C_teacher:
            raise ValueError(f"factor takes an int from 1 to {C_teacher}, not {factor}.")
        self._classifier = (classifier_of_mean(teacher),)  # in a tuple: not among the parameters
        width = C_teacher // factor
        self.projector = nn.Sequential(
            *layer(C, width, 1), *layer(width, width, 3), *layer(width, C_teacher, 1)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        f_student, f_teacher = same_size(student.features[-1], teacher.features[-1])
        return F.mse_loss(self.projector(f_student), f_teacher)

    def deployed(self, student: Backbone) -> Backbone:
        """Student, projector and teacher's classifier: the very modules, not copies.

        The student's map is pooled to the size that it had in training.
        """
        network = Reused(student.network, self.projector, self._classifier[0])
        encode = functools.partial(answer, student=student.answer, size=self.size)
        return Backbone(network, encode, student.input_size, classifier="classifier")


class Reused(nn.Module):
    """What is deployed; called by ``answer``."""

    def __init__(self, student: nn.Module, projector: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.student, self.projector, self.classifier = student, projector, classifier


def answer(
    network: Any,
    image: Tensor,
    *,
    student: Callable[[nn.Module, Tensor], Output],
    size: torch.Size,
) -> Output:
    """The teacher's classifier on the pooled, projected map; the student's features."""
    features = student(network.student, image).features
    embedding = network.projector(pooled(features[-1], *size)).mean((2, 3))
    return Output(network.classifier(embedding), embedding, features)


def layer(before: int, after: int, kernel: int) -> tuple[nn.Module, ...]:
    """A convolution that keeps the map's size, BatchNorm and ReLU."""
    convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU()
