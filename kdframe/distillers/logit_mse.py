"""Squared distance of logits: Ba and Caruana 2014, arXiv:1312.6184, equation 1 (from memory)."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("logit_mse")
def logit_mse(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Regresses the teacher's logits.

        L = mean over images and classes of  (z_student - z_teacher)^2

    0 for equal logits.  The paper has half the sum over classes, K/2 times this, and normalises
    the teacher's logits over the training set, which is left out.  Unlike ``kd`` at any T it also
    asks for the logits' mean, to which probabilities are blind.

    Published: alone, without the labels.
    """
    return F.mse_loss(*logits_of(student, teacher))
