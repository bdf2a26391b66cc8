"""Refined logits: Sun et al. 2024, arXiv:2408.07703, as in the authors' code."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, log_parts, logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("rld")
def rld(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
) -> Tensor:
    """Matches what a teacher that errs still knows: its sureness, and the classes below the label.

        b_teacher = (p_m, 1 - p_m), m its own first class;  b_student = (p_y, 1 - p_y), y the label
        q         = softmax(z / T) over the classes that the teacher puts below the label
        L         = alpha T_c^2 KL(b_teacher || b_student) + beta T^2 KL(q_teacher || q_student)

    The mean over images, in nats; b is taken at T_c = ``confidence_temperature``.  An image whose
    label is the teacher's last class has no q and adds nothing to it.  0 for equal logits where
    the teacher is right; where it is wrong, the student is not to repeat that.  Departs from the
    public code, which takes the log of probabilities: here all stays in log space.

    Published: 1 after a WARMUP of 20 epochs, beside a cross entropy of 1.
    """
    above_0(temperature=temperature, confidence_temperature=confidence_temperature)
    from_0(alpha=alpha, beta=beta)
    T, T_c = temperature, confidence_temperature
    z_student, z_teacher = logits_of(student, teacher)
    b_student, _ = log_parts(z_student / T_c, batch.target)
    b_teacher, _ = log_parts(z_teacher / T_c, z_teacher.argmax(dim=1))
    masked = z_teacher >= z_teacher.gather(1, batch.target[:, None])
    # not -inf: a row that is masked all over is even in both networks, and scores 0
    q_student, q_teacher = (
        F.log_softmax((z / T).masked_fill(masked, -1e9), dim=1) for z in (z_student, z_teacher)
    )
    return alpha * T_c**2 * kl(b_teacher, b_student) + beta * T**2 * kl(q_teacher, q_student)
