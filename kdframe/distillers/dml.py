"""Deep mutual learning: Zhang et al. 2018, arXiv:1706.00384, section 3.1."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, logits_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("dml")
def dml(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Matches the class probabilities of a peer that is learning at the same time.

        L = KL(p_teacher || p_student),  p = softmax(z),  the mean over images, in nats

    0 for equal logits.  The peer is a constant here: no gradient reaches it.  With
    ``TEACHER: {TRAIN: true}`` the loop calls every term a second time with the networks' roles
    exchanged, so that ``LOSS: {cross_entropy: {}, dml: {}}`` is the paper's two losses,

        L_1 = CE_1 + KL(p_2 || p_1),  L_2 = CE_2 + KL(p_1 || p_2)

    Both are taken from one forward pass of each network; the authors' code updates the networks
    in turn, each from a pass of its own, and adds 1e-8 inside the logarithm.

    Published: 1 cross_entropy + 1 dml, both networks.
    """
    z_student, z_teacher = logits_of(student, teacher)
    return kl(F.log_softmax(z_teacher.detach(), dim=1), F.log_softmax(z_student, dim=1))
