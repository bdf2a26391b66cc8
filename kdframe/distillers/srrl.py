"""Softmax regression representation learning: Yang et al. 2021, ICLR 2021, after their code."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.classifiers import linear_classifier
from kdframe.distillers.ranges import from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("srrl", needs=("teacher_classifier",))
class SRRL(nn.Module):
    """Wants the student's features right for the teacher's own classifier.

        h_student = the mean over positions of P(f_student),  f the last map
        L = alpha mean( (h_student - h_teacher)^2 ) + beta mean( (W h_student + b - z_teacher)^2 )

    P is a learned 1x1 convolution without bias, BatchNorm and ReLU; h_teacher and z_teacher are
    the teacher's embedding and logits, W and b its classifier, which is not trained.  The means
    are over images and elements: the paper's squared norms over their length.  0 where h_student
    is h_teacher.  SimKD's suite pools before P instead of after it.

    Raises:
        ValueError: a negative weight, or a teacher whose classifier isn't linear.

    Published: 1 beside cross_entropy 1 in the authors' code for ImageNet, 1 beside cross_entropy
    1 and kd 1 (T = 4) in SimKD's suite for CIFAR-100.
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, alpha: float = 1.0, beta: float = 1.0
    ) -> None:
        super().__init__()
        from_0(alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta
        classifier = linear_classifier(teacher)
        self._classifier = (classifier,)  # in a tuple: not among the parameters
        (channels,), width = student.channels_of((-1,)), classifier.in_features
        self.connector = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        h_student = self.connector(student.features[-1]).mean((2, 3))
        L_FM = F.mse_loss(h_student, teacher.embedding)
        L_SR = F.mse_loss(frozen(self._classifier[0], h_student), teacher.logits)
        return self.alpha * L_FM + self.beta * L_SR


def frozen(layer: nn.Linear, h: Tensor) -> Tensor:
    """The layer's answer, in the type of ``h``; no gradient reaches its weights."""
    W = layer.weight.detach().to(h)
    return F.linear(h, W, None if layer.bias is None else layer.bias.detach().to(h))
