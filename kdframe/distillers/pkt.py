"""Probabilistic transfer: Passalis and Tefas 2018, arXiv:1803.10837, as in the authors' code."""

from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.ranges import above_0, at_least
from kdframe.distillers.relations import units
from kdframe.registry import DISTILLERS


@DISTILLERS.register("pkt", needs=("global_batch",))
def pkt(student: Output, teacher: Output, batch: Batch, *, eps: float = 1e-7) -> Tensor:
    """Matches how likely each image is another's neighbour.

        K_ij = (1 + cos(h_i, h_j)) / 2,  P_ij = K_ij / sum_j K_ij,  h = the embedding
        L    = mean over i and j of  P_teacher log((P_teacher + eps) / (P_student + eps))

    In nats; 0 for equal embeddings, and for those that differ by a rotation and by the scale of
    each image.  cos is of h / (||h|| + eps), so an image of zeros is half alike to all.  As in the
    authors' code the mean is over all B^2 pairs, 1/B of the mean over images of KL, and an image
    is its own neighbour too; the paper leaves i = j out.  Their repair of NaN isn't needed.

    Published: WEIGHT 30000 beside cross_entropy 1 (CRD's suite).
    CIFAR-100: 73.64, 74.54, 72.88, 70.34.
    """
    at_least(2, student)
    above_0(eps=eps)
    P_student, P_teacher = (neighbours(o.embedding, eps) for o in (student, teacher))
    return (P_teacher * ((P_teacher + eps).log() - (P_student + eps).log())).mean()


def neighbours(h: Tensor, eps: float) -> Tensor:
    """P (B, B)."""
    v = units(h, eps=eps)
    K: Tensor = (1 + v @ v.T) / 2
    return K / K.sum(dim=1, keepdim=True)
