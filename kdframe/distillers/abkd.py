"""ABKD: Wang et al. 2025, arXiv:2505.04560, its divergence as in the authors' code."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("abkd")
def abkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    alpha: float = 0.8,
    beta: float = 0.3,
    temperature: float = 4.0,
) -> Tensor:
    """Soft labels by a divergence between KL(p || q) and KL(q || p).

        p, q = softmax(z / T) of teacher and student,  s = alpha + beta
        L    = sum_k (alpha/s p^s + beta/s q^s - p^alpha q^beta) / (alpha beta)

    The mean over images; 0 for equal p and q.  alpha 1 and beta 0 is KL(p || q), so ``kd`` is T^2
    of it (no T^2 here, as in the authors' code); alpha 0 and beta 1 is KL(q || p), 1 and 1 half the
    squared distance.  At 0 the limits are taken:

        beta 0:   sum_k (p^alpha log(p^alpha / q^alpha) - p^alpha + q^alpha) / alpha^2

    and with p, q and alpha, beta exchanged at alpha 0.  The authors' code divides by alpha there,
    which is the limit only where alpha is 1.

    Raises:
        ValueError: alpha and beta both 0, or one below it.

    Published: 32 with alpha .8 and beta .3 (resnet56 to resnet20), beside a cross entropy of 1.
    """
    above_0(temperature=temperature)
    from_0(alpha=alpha, beta=beta)
    if alpha + beta == 0:
        raise ValueError("alpha and beta take numbers of which one is above 0, not 0 and 0.")
    log_q, log_p = (F.log_softmax(z / temperature, dim=1) for z in logits_of(student, teacher))
    if beta == 0:
        divergence = limit(log_p, log_q, alpha)
    elif alpha == 0:
        divergence = limit(log_q, log_p, beta)
    else:
        s = alpha + beta
        own = alpha / s * (s * log_p).exp() + beta / s * (s * log_q).exp()
        divergence = (own - (alpha * log_p + beta * log_q).exp()) / (alpha * beta)
    return divergence.sum(dim=1).mean()


def limit(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """The divergence of each class for beta 0."""
    p, q = (alpha * log_p).exp(), (alpha * log_q).exp()
    return (p * alpha * (log_p - log_q) - p + q) / alpha**2
