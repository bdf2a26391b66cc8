"""Attention-based feature matching: Ji, Heo and Park 2021, arXiv:2102.02973, after their code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import pooled
from kdframe.distillers.ranges import above_0, at_least
from kdframe.registry import DISTILLERS


@DISTILLERS.register("afd")
class AFD(nn.Module):
    """Matches where the networks are active, each teacher's stage with those it is told to like.

        q_t     = BN(A_t h_t),  k_s = ReLU(BN(A_s h_s)),  h = a map's mean over positions
        alpha_t = softmax over s of  ( (W_t k_s) . q_t + p_t . p_s ) / sqrt(dim)
        L       = sum_t mean_B sum_s alpha_ts mean( (v_t - v_s)^2 )

    t is a stage of the teacher, s one of the student; v is the mean over channels of f^2 as a
    vector of norm 1, the student's average-pooled to the teacher's size first (where it is
    smaller its pixels are repeated).  The inner mean is over positions.  A, p and W_t (with a
    BatchNorm) are learned, ``dim`` wide, without the biases before a BatchNorm that the authors
    have: they do nothing.  0 where all v are alike.

    The authors compare every block; kdframe's stages are a ResNet's groups of them, a
    transformer's blocks.

    Raises:
        ValueError: a stage that isn't there, a dim below 1, a batch of one image.

    Published: 200 beside cross_entropy 1 and kd .9 (T = 4).
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        student_stages: tuple[int, ...] = (),
        teacher_stages: tuple[int, ...] = (),
        dim: int = 128,
    ) -> None:
        super().__init__()
        above_0(dim=dim)
        self.student_stages, self.teacher_stages, self.dim = student_stages, teacher_stages, dim
        mine, theirs = student.channels_of(student_stages), teacher.channels_of(teacher_stages)
        self.keys = nn.ModuleList(nn.Sequential(*linear(C, dim), nn.ReLU()) for C in mine)
        self.queries = nn.ModuleList(linear(C, dim) for C in theirs)
        self.bilinear = linear(dim, dim * len(theirs))
        self.p_student = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(mine), dim)))
        self.p_teacher = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(theirs), dim)))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        at_least(2, student)
        mine, theirs = student.maps(self.student_stages), teacher.maps(self.teacher_stages)
        k = embedded(self.keys, mine)  # (B, S, dim)
        q = embedded(self.queries, theirs)  # (B, T, dim)
        W_k = self.bilinear(k.flatten(0, 1)).unflatten(1, (len(theirs), self.dim))
        W_k = W_k.unflatten(0, k.shape[:2])  # (B, S, T, dim)
        likeness = torch.einsum("bstd,btd->bts", W_k, q) + self.p_teacher @ self.p_student.T
        alpha = (likeness / math.sqrt(self.dim)).softmax(dim=2)
        losses = []
        for t, f_teacher in enumerate(theirs):
            H, W = f_teacher.shape[2:]
            v_teacher = activity(f_teacher, H, W)[:, None]
            v_student = torch.stack([activity(f, H, W) for f in mine], dim=1)  # (B, S, HW)
            distances = (v_student - v_teacher).square().mean(dim=2)
            losses.append((alpha[:, t] * distances).sum(dim=1).mean())
        return torch.stack(losses).sum()


def activity(f: Tensor, height: int, width: int) -> Tensor:
    """The vectors v (B, height x width)."""
    return F.normalize(pooled(f.square().mean(dim=1, keepdim=True), height, width).flatten(1))


def embedded(layers: nn.ModuleList, features: list[Tensor]) -> Tensor:
    """Keys or queries (B, stages, dim)."""
    pairs = zip(layers, features, strict=True)
    return torch.stack([layer(f.mean((2, 3))) for layer, f in pairs], dim=1)


def linear(before: int, after: int) -> nn.Sequential:
    """With a BatchNorm, which has the bias."""
    return nn.Sequential(nn.Linear(before, after, bias=False), nn.BatchNorm1d(after))
