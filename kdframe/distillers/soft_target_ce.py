"""Soft targets' cross entropy: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("soft_target_ce")
def soft_target_ce(
    student: Output, teacher: Output, batch: Batch, *, temperature: float = 4.0
) -> Tensor:
    """Cross entropy of the student's and the teacher's softened class probabilities.

        p(z) = softmax(z / T)
        L    = -T^2 sum_k p_k(z_teacher) log p_k(z_student),  the mean over images, in nats

    The paper's own form of ``kd``: more by T^2 times the entropy of the teacher's probabilities,
    which is its minimum, and with the same gradient.

    Published: the paper says no more than that the labels weigh considerably less; the PyTorch
    tutorial takes 0.75 cross_entropy + 0.25 soft_target_ce, T 2.
    """
    above_0(temperature=temperature)
    T = temperature
    z_student, z_teacher = logits_of(student, teacher)
    return T**2 * F.cross_entropy(z_student / T, F.softmax(z_teacher / T, dim=1))
