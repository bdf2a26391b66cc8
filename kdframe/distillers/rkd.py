"""Relational distillation: Park et al. 2019, arXiv:1904.05068, as in the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.ranges import at_least, from_0
from kdframe.distillers.relations import squared_distances
from kdframe.registry import DISTILLERS

CHUNK = 2**20  # angles that are held at once: 4 MiB a tensor in float32


@DISTILLERS.register("rkd", needs=("global_batch",))
def rkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    distance: float = 25.0,
    angle: float = 50.0,
) -> Tensor:
    """Matches the distances between images, and the angles between three of them.

        d_ij   = ||h_i - h_j||,  divided by its mean over i != j
        a_ijk  = <e_ij, e_ik>,   e_ij = (h_j - h_i) / ||h_j - h_i||,  0 for h_i = h_j
        L      = distance mean_ij l(d_student, d_teacher) + angle mean_ijk l(a_student, a_teacher)

    l is the Huber loss with its corner at 1, h the embedding, not normalised.  The means are over
    all B^2 and B^3, as in the authors' code; the paper sums over distinct images.  0 for
    embeddings that differ by a rotation, a shift and a scale.

    The angles come from the distances by the law of cosines, in B^3 of time whatever the width of
    h, some at a time: memory is that of a few tensors of B^2 and of 2^20 numbers.

    Published: WEIGHT 1 beside cross_entropy 1 (CRD's suite).
    CIFAR-100: 71.90, 73.35, 71.48, 69.61.
    """
    at_least(2, student)
    from_0(distance=distance, angle=angle)
    D_student, D_teacher = (squared_distances(o.embedding) for o in (student, teacher))
    loss = distance * F.smooth_l1_loss(relative(D_student), relative(D_teacher))
    return loss + angle * angular(D_student, D_teacher) if angle else loss


def relative(D: Tensor) -> Tensor:
    """The distances d (B, B), from their squares."""
    d = torch.where(D > 0, D, 1).sqrt() * (D > 0)  # the slope of the root at 0 is no number
    B = len(d)
    return d / (d.sum() / (B * (B - 1))).clamp_min(1e-12)


def angular(D_student: Tensor, D_teacher: Tensor) -> Tensor:
    """The mean Huber loss of a (B, B, B).

    Its slope is found beside it, corner by corner: the backward pass would hold all B^3.
    """
    loss, slope = loss_and_slope(D_student.detach(), D_teacher)
    return loss + (slope * (D_student - D_student.detach())).sum()


@torch.no_grad()
def loss_and_slope(D_student: Tensor, D_teacher: Tensor) -> tuple[Tensor, Tensor]:
    """``angular``, and its derivative by each element of D_student."""
    B = len(D_student)
    size = max(1, CHUNK // B**2)
    loss, slope = D_student.new_zeros(()), torch.zeros_like(D_student)
    for i in (slice(first, first + size) for first in range(0, B, size)):
        (a_student, inverse), (a_teacher, _) = cosines(D_student, i), cosines(D_teacher, i)
        loss += F.smooth_l1_loss(a_student, a_teacher, reduction="sum")
        g = (a_student - a_teacher).clamp(-1, 1)
        w = g * inverse[:, :, None] * inverse[:, None]
        slope[i] += w.sum(dim=2) - (g * a_student).sum(dim=2) * inverse**2
        slope -= w.sum(dim=0) / 2
    return loss / B**3, slope / B**3


def cosines(D: Tensor, i: slice) -> tuple[Tensor, Tensor]:
    """The cosines a (corners, B, B), and 1 / ||h_i - h_j|| or 0 (corners, B)."""
    sides = D[i]
    inverse = torch.where(sides > 0, sides, 1).rsqrt() * (sides > 0)
    sums = sides[:, :, None] + sides[:, None] - D
    return sums * inverse[:, :, None] * inverse[:, None] / 2, inverse
