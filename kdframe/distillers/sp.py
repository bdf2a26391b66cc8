"""Similarity-preserving distillation: Tung and Mori 2019, arXiv:1907.09682 (from memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, paired
from kdframe.registry import DISTILLERS


@DISTILLERS.register("sp", needs=("global_batch",))
def sp(student: Output, teacher: Output, batch: Batch, *, stages: Stages = (-1,)) -> Tensor:
    """Matches which images of the batch are alike.

        G = F F^T with each row divided by its Euclidean norm,  F (B, CHW) = a stage's map
        L = sum over stages of  ||G_student - G_teacher||_F^2 / B^2

    Needs neither equal channels nor equal sizes.  G is that of the images of all processes.
    """
    losses = [
        F.mse_loss(similarity(f_student), similarity(f_teacher))
        for f_student, f_teacher in paired(student, teacher, stages)
    ]
    return torch.stack(losses).sum()


def similarity(f: Tensor) -> Tensor:
    """G (B, B)."""
    rows = f.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)
