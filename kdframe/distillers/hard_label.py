"""Hard-label distillation (DeiT): Touvron et al. 2021, arXiv:2012.12877, equation 3."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("hard_label")
def hard_label(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Takes the class that the teacher decides for as the label.

        L = -log p_y,  p = softmax(z_student),  y = argmax_k z_teacher,k

    The mean over images, in nats; its minimum is 0, for a student that is sure of y, and equal
    logits score more.  DeiT adds a distillation token whose own head learns this term; here it is
    the one head that learns the labels too, as in the paper's equation.

    Published: 0.5 cross_entropy + 0.5 hard_label, on ImageNet.
    """
    z_student, z_teacher = logits_of(student, teacher)
    return F.cross_entropy(z_student, z_teacher.argmax(dim=1))
