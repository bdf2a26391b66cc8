"""One for all, the loss on logits: Hao et al. 2023, arXiv:2310.19444, as in the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("ofa")
def ofa(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    eps: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Soft labels with the label's share enhanced, for teachers of another architecture.

        p(z) = softmax(z / T)
        L    = -sum_k ((p_k(z_teacher) + 1[k = y])^eps - 1[k = y]) log p_k(z_student)

    The mean over images, in nats, without T^2.  eps = 1 is ``soft_target_ce`` / T^2; above 1 the
    label weighs more and the others less.  With ``cross_entropy`` added, the label's factor is
    (1 + p_y)^eps.  A cross entropy: equal logits do not score 0.  The authors' code raises every
    class to eps; the paper's equation only the label (from memory).

    Published: 1 cross_entropy + 1 ofa, EPS 1 to 1.5 by pair, with heads on stages as well.
    """
    above_0(eps=eps, temperature=temperature)
    z_student, z_teacher = logits_of(student, teacher)
    p_teacher = F.softmax(z_teacher / temperature, dim=1)
    label = torch.zeros_like(p_teacher).scatter(1, batch.target[:, None], 1.0)
    return F.cross_entropy(z_student / temperature, (p_teacher + label) ** eps - label)
