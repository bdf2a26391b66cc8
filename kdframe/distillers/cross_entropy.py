"""The labels; smoothed as in Szegedy et al. 2016, arXiv:1512.00567, section 7."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.ranges import from_0_to_1
from kdframe.registry import DISTILLERS


@DISTILLERS.register("cross_entropy")
def cross_entropy(
    student: Output, teacher: Output | None, batch: Batch, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy of the student's probabilities and the labels.

        L = -sum_k q_k log p_k,  p = softmax(z_student),  the mean over images, in nats

    q is 1 at the label y; with ``label_smoothing`` e it is (1 - e) [k = y] + e/K, and the
    minimum of L is no longer 0 but q's own entropy.
    """
    from_0_to_1(label_smoothing=label_smoothing)
    return F.cross_entropy(student.logits, batch.target, label_smoothing=label_smoothing)
