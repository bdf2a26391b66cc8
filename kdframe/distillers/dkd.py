"""Decoupled distillation: Zhao et al. 2022, arXiv:2203.08679, equation 7."""

from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, log_parts, logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("dkd")
def dkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Matches how sure the teacher is of the label, and how it ranks the others, apart.

        b = (p_y, 1 - p_y),  q = softmax over the K - 1 other classes,  all at z / T
        L = T^2 (alpha KL(b_teacher || b_student) + beta KL(q_teacher || q_student))

    The mean over images, in nats; 0 for equal logits.  ``kd`` is alpha = 1 and beta = 1 - p_y of
    the teacher.  T^2 is not in the paper's equation, but in its code.  Departs from that code,
    which masks the label by subtracting 1000 from its logit and takes the log of probabilities:
    here the label is left out and all stays in log space.

    Published: 1 cross_entropy + 1 dkd with WARMUP 20, BETA 8 (resnet32x4), 6 (WRN, vgg) or 2
    (resnet56).  CIFAR-100: 76.32, 76.24, 74.68, 71.97.
    """
    above_0(temperature=temperature)
    from_0(alpha=alpha, beta=beta)
    T = temperature
    z_student, z_teacher = logits_of(student, teacher)
    b_student, q_student = log_parts(z_student / T, batch.target)
    b_teacher, q_teacher = log_parts(z_teacher / T, batch.target)
    return T**2 * (alpha * kl(b_teacher, b_student) + beta * kl(q_teacher, q_student))
