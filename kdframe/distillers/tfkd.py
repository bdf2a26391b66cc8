"""Teacher-free KD (Tf-KD_reg): Yuan et al. 2020, arXiv:1909.11723, equations 8 and 9."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl
from kdframe.distillers.ranges import above_0, from_0_to_1, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("tfkd")
def tfkd(
    student: Output,
    teacher: Output | None,
    batch: Batch,
    *,
    temperature: float = 20.0,
    correct: float = 0.9,
    variant: str = "paper",
) -> Tensor:
    """Learns from a teacher that is written down: sure of the label, even among the others.

        d = a at the label, (1 - a) / (K - 1) elsewhere;  a is ``correct``
        L = T^2 KL(softmax(d / T) || softmax(z_student / T))    variant "paper"
        L =     KL(softmax(d / T) || softmax(z_student))        variant "code"

    The mean over images, in nats; 0 at z_student = d, or d / T in "code", plus any constant.  The
    paper writes no T^2: its alpha is a WEIGHT of alpha / T^2.  The authors' code, and so their
    figures, leave the student's logits as they are and average over classes too, L / K, times a
    multiplier of 100.  softmax(d / T) is nearly flat: at T = 20 the label has e^(a/20), about 1.05
    times another class.  No teacher is needed.

    Published: 0.9 cross_entropy + 0.1 tfkd, CORRECT 0.99, VARIANT code (K = 100).
    """
    above_0(temperature=temperature)
    from_0_to_1(correct=correct)
    one_of("variant", variant, ("paper", "code"))
    T = temperature
    z = student.logits
    d = torch.full_like(z, (1 - correct) / (z.shape[1] - 1))
    d = d.scatter(1, batch.target[:, None], correct)
    log_p_teacher = F.log_softmax(d / T, dim=1)
    if variant == "code":
        return kl(log_p_teacher, F.log_softmax(z, dim=1))
    return T**2 * kl(log_p_teacher, F.log_softmax(z / T, dim=1))
