"""Semantic calibration: Chen et al. 2020, arXiv:2012.03236, after their code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import same_size
from kdframe.registry import DISTILLERS


@DISTILLERS.register("semckd")
class SemCKD(nn.Module):
    """Regresses every stage of the teacher from every stage of the student, weighed by attention.

        M_i     = F_i F_i^T,  F_i (B, CHW) = the stage's map
        alpha_n = softmax over j of  Q_i(M_i)_n . K_j(M_j)_n                 of image n
        L       = mean over i and n of  sum_j alpha_n,ij mean( (P_ij(f_i) - f_j)^2 )_n

    i is a stage of the student, j one of the teacher.  Q and K are a Linear, ReLU, Linear to
    ``batch_size``/4 numbers of norm 1; P is convolutions of 1x1, 3x3 and 1x1 without bias, twice
    the teacher's channels wide, BatchNorm and ReLU between.  Maps of different size: the larger is
    average-pooled, the student's before P.  The inner mean is over elements.  0 where each
    P_ij(f_i) is f_j.

    Q and K read M's row by place, so L depends on the order of the batch, and a batch holds at
    most ``batch_size`` images (those of one process, of one part under ACCUMULATE).  A smaller
    batch's rows are filled with zeros; the authors' code leaves it out.

    Raises:
        ValueError: a stage that isn't there, a batch_size below 4, a batch that is larger.

    Published: 400 beside cross_entropy 1 and kd 1 (T = 4).
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        student_stages: tuple[int, ...] = (),
        teacher_stages: tuple[int, ...] = (),
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if batch_size < 4:
            raise ValueError(f"batch_size takes an int from 4, not {batch_size}.")
        self.student_stages, self.teacher_stages = student_stages, teacher_stages
        self.batch_size = batch_size
        mine, theirs = student.channels_of(student_stages), teacher.channels_of(teacher_stages)
        self.queries = nn.ModuleList(embedding(batch_size) for _ in mine)
        self.keys = nn.ModuleList(embedding(batch_size) for _ in theirs)
        self.projections = nn.ModuleList(  # P_ij at i * len(theirs) + j
            projection(C, C_teacher) for C in mine for C_teacher in theirs
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        mine, theirs = student.maps(self.student_stages), teacher.maps(self.teacher_stages)
        Q = self.embedded(self.queries, mine)  # (B, S, d)
        K = self.embedded(self.keys, theirs)  # (B, T, d)
        alpha = (Q @ K.transpose(1, 2)).softmax(dim=2)
        pairs = [same_size(f_student, f_teacher) for f_student in mine for f_teacher in theirs]
        distances = [
            (P(f_student) - f_teacher).square().mean((1, 2, 3))
            for P, (f_student, f_teacher) in zip(self.projections, pairs, strict=True)
        ]
        return (alpha * torch.stack(distances, dim=1).view_as(alpha)).sum(dim=2).mean()

    def embedded(self, embeddings: nn.ModuleList, features: list[Tensor]) -> Tensor:
        """Queries or keys (B, stages, d)."""
        spare = self.batch_size - len(features[0])
        if spare < 0:
            raise ValueError(
                f"batch_size takes a batch's {len(features[0])} images, not {self.batch_size}."
            )
        rows = [f.flatten(1) for f in features]
        vectors = [
            F.normalize(embed(F.pad(F_i @ F_i.T, (0, spare))))
            for embed, F_i in zip(embeddings, rows, strict=True)
        ]
        return torch.stack(vectors, dim=1)


def embedding(batch_size: int) -> nn.Sequential:
    """Q or K, before the norm is made 1."""
    d = batch_size // 4
    return nn.Sequential(nn.Linear(batch_size, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))


def projection(channels: int, teacher_channels: int) -> nn.Sequential:
    """P."""
    width = 2 * teacher_channels
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, teacher_channels, kernel_size=1, bias=False),
    )
