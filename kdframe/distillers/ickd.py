"""Inter-channel correlation: Liu et al. 2021, arXiv:2202.03680, as in the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, connector, paired
from kdframe.registry import DISTILLERS

CHUNK = 2**24  # correlations that are held at once: 64 MiB a tensor in float32


@DISTILLERS.register("ickd")
class ICKD(nn.Module):
    """Matches which channels of an image's map are alike (ICKD-C, for classification).

        G = F F^T with each row divided by its Euclidean norm,  F (C, HW) = a stage's map
        L = sum over stages of  mean over images of  ||G_student - G_teacher||_F^2 / C

    The student's map is taken to the teacher's C channels by a learned 1x1 convolution without
    bias and BatchNorm, everywhere, as in the authors' code (with one for each stage).  G needs no
    equal sizes.  0 for correlations that are alike, which a scale and a shuffle of the positions
    leave as they are.  Between 0 and 4 a stage.  Memory: C^2 an image, a few images at a time.

    Published: WEIGHT 2.5 beside cross_entropy 1 and kd 1 with T 4, or without kd.
    """

    def __init__(self, student: Backbone, teacher: Backbone, *, stages: Stages = (-1,)) -> None:
        super().__init__()
        self.stages = stages
        self.connectors = nn.ModuleList(
            connector(*maps) for maps in paired(student.probe(), teacher.probe(), stages)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        for r, (f_student, f_teacher) in zip(
            self.connectors, paired(student, teacher, self.stages), strict=True
        ):
            B, C = f_teacher.shape[:2]
            size = max(1, CHUNK // C**2)
            chunks = zip(*(torch.split(f, size) for f in (r(f_student), f_teacher)), strict=True)
            squares = [checkpoint(of_images, *maps, use_reentrant=False) for maps in chunks]
            losses.append(torch.stack(squares).sum() / (B * C))
        return torch.stack(losses).sum()


def of_images(student: Tensor, teacher: Tensor) -> Tensor:
    """||G_student - G_teacher||_F^2, summed over images."""
    return F.mse_loss(correlation(student), correlation(teacher), reduction="sum")


def correlation(f: Tensor) -> Tensor:
    """G (images, C, C)."""
    rows = f.flatten(2)
    return F.normalize(rows @ rows.mT, dim=2)
