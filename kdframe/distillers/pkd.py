"""Pearson distillation: Cao et al. 2022, arXiv:2207.02039, after the authors' mmrazor code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, adapters, paired, same_size
from kdframe.registry import DISTILLERS


@DISTILLERS.register("pkd")
class PKD(nn.Module):
    """Matches each channel's map up to a scale and a shift.

        z(f) = (f - mean_c) / (std_c + 1e-6),  both over the batch's images and all positions
        L    = sum over stages of  mean( (z(r(f_student)) - z(f_teacher))^2 ) / 2

    which is 1 - Pearson's correlation of a channel's two maps, the mean over channels: from 0 to 2,
    and 0.5 for a channel that is constant in one network.  r is a learned 1x1 convolution without a
    bias where channels differ.  The images are those of one process.  The public code's std divides
    by n - 1 values where this divides by n, and makes (n - 1)/n of this; it interpolates the
    student's map to the teacher's size, where here the larger is average-pooled.

    Published, for a detector's pyramid: WEIGHT 10 on each level.
    """

    def __init__(self, student: Backbone, teacher: Backbone, *, stages: Stages = ()) -> None:
        super().__init__()
        self.stages = stages
        self.adapters = adapters(student, teacher, stages, bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        for r, maps in zip(self.adapters, paired(student, teacher, self.stages), strict=True):
            f_student, f_teacher = same_size(*maps)
            losses.append(F.mse_loss(standardized(r(f_student)), standardized(f_teacher)) / 2)
        return torch.stack(losses).sum()


def standardized(f: Tensor) -> Tensor:
    """z, (C, n): each channel's values of all images and positions."""
    rows = f.transpose(0, 1).flatten(1)
    rows = rows - rows.mean(dim=1, keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)  # a finite slope at 0
    return rows / (norm / math.sqrt(rows.shape[1]) + 1e-6)
