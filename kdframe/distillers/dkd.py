"""Decoupled distillation: Zhao et al. 2022, arXiv:2203.08679, equation 7 (from memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, logits_of
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

    The mean over images, in nats.  ``kd`` is alpha = 1 and beta = 1 - p_y of the teacher.
    Departs from the public code, which masks the label by subtracting 1000 from its logit and
    takes the log of probabilities: here the label is left out and all stays in log space.
    """
    above_0(temperature=temperature)
    from_0(alpha=alpha, beta=beta)
    T = temperature
    z_student, z_teacher = logits_of(student, teacher)
    b_student, q_student = log_parts(z_student / T, batch.target)
    b_teacher, q_teacher = log_parts(z_teacher / T, batch.target)
    return T**2 * (alpha * kl(b_teacher, b_student) + beta * kl(q_teacher, q_student))


def log_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of b (B, 2) and of q (B, K - 1)."""
    y = target[:, None]
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = others + (others >= y)  # a gather by number: a mask would wait for the device
    log_p = F.log_softmax(logits, dim=1)
    log_p_others = log_p.gather(1, others)
    log_b = torch.cat((log_p.gather(1, y), log_p_others.logsumexp(dim=1, keepdim=True)), dim=1)
    return log_b, F.log_softmax(log_p_others, dim=1)
