"""Attention transfer: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, paired, same_size
from kdframe.distillers.ranges import one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("at")
def at(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    stages: Stages = (),
    p: int = 2,
    variant: str = "code",
) -> Tensor:
    """Matches where in the image the networks are active.

        Q = v / ||v||,  v = the flattened mean over channels of |f|^p
        L = sum over stages of  mean( (Q_student - Q_teacher)^2 )         variant "code"
        L = sum over stages of  mean_B ||Q_student - Q_teacher||          variant "paper"

    The authors' code takes the mean over images and positions of the squares, and is the default;
    their paper writes the norm itself, times beta/2: for an image HW / ||Q_student - Q_teacher||
    times the code's, some hundreds for maps of 8 x 8.  Norms are Euclidean.  Their code leaves out
    the | |, which matters for odd p.  Maps of different size: the larger is average-pooled.  0 for
    equal maps; a scale of an image's map means nothing.

    Published: WEIGHT 1000 with cross entropy.  CIFAR-100: 73.44, 74.08, 71.43, 70.55.
    """
    if p < 1:
        raise ValueError(f"p takes an int from 1, not {p}.")
    one_of("variant", variant, ("code", "paper"))
    losses = []
    for maps in paired(student, teacher, stages):
        Q_student, Q_teacher = (attention(f, p) for f in same_size(*maps))
        if variant == "code":
            losses.append(F.mse_loss(Q_student, Q_teacher))
        else:
            losses.append(torch.linalg.vector_norm(Q_student - Q_teacher, dim=1).mean())
    return torch.stack(losses).sum()


def attention(f: Tensor, p: int) -> Tensor:
    """Q (B, HW)."""
    return F.normalize(f.abs().pow(p).mean(dim=1).flatten(1), dim=1)
