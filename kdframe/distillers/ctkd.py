"""Curriculum temperature: Li et al. 2023, arXiv:2211.16231, global, as in the authors' code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("ctkd")
class CTKD(nn.Module):
    """Soft labels at a temperature that is learned against the student.

        T      = t_start + t_range sigmoid(theta)
        L      = T^2 KL(softmax(z_teacher / T) || softmax(z_student / T))
        lambda = (1 - cos(pi min(epoch / epochs, 1))) / 2

    The mean over images, in nats; 0 for equal logits.  The student descends L and theta ascends
    it: the gradient that reaches theta is -lambda times L's, so that the task grows harder over
    the first ``epochs`` epochs.  theta starts at 1, T at 15.62 of the 1 to 21 it may take, and has
    the student's learning rate and weight decay.  lambda moves with every step; in the authors'
    code with every epoch, counted from 1.  The paper's other version, a temperature for every
    image, is left out.

    Published: 0.1 cross_entropy + 0.9 ctkd.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        t_start: float = 1.0,
        t_range: float = 20.0,
        epochs: int = 10,
    ) -> None:
        super().__init__()
        above_0(t_start=t_start, epochs=epochs)
        from_0(t_range=t_range)
        self.t_start, self.t_range, self.epochs = t_start, t_range, epochs
        self.theta = nn.Parameter(torch.ones(()))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        z_student, z_teacher = logits_of(student, teacher)
        ramp = (1 - math.cos(math.pi * min(batch.epoch / self.epochs, 1.0))) / 2
        T = self.t_start + self.t_range * torch.sigmoid(reversed_gradient(self.theta, ramp))
        log_p_student = F.log_softmax(z_student / T, dim=1)
        log_p_teacher = F.log_softmax(z_teacher / T, dim=1)
        return T**2 * kl(log_p_teacher, log_p_student)


def reversed_gradient(x: Tensor, scale: float) -> Tensor:
    """Is x, to the bit, with a gradient of -scale."""
    return x - (1 + scale) * (x - x.detach())
