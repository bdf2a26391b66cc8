"""Orthogonal projections: Miles, Elezi and Deng 2024, arXiv:2403.06213, after the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS


@DISTILLERS.register("vkd")
class VKD(nn.Module):
    """Regresses the teacher's normalised embedding from the student's, rotated.

        L = mean smooth-L1( P h_student - (h_teacher - mean) / sqrt(var + 1e-5) )

    mean and var over an image's embedding; smooth-L1(d) = d^2/2 below 1, |d| - 1/2 from there.  P
    is learned with orthonormal columns (rows where the student's embedding is the larger), so that
    it can't do the student's work:

        P = (I - A/2)^-1 (I + A/2) P_0,    A^T = -A learned from 0, P_0 drawn once and kept

    0 where P leads the one onto the other.  The paper maps A by the matrix exponential; Cayley's
    map is cheaper and doesn't wait for the device.  (The authors' code uses torch's ``orthogonal``,
    whose default for unequal sizes keeps signs in the learned numbers: any weight decay makes
    its P zero.)  They pool the tokens of a student without a class token, here its embedding.

    Published: WEIGHT 1 with cross entropy and kd (1, T 1) on a token of its own, ImageNet.
    """

    P_0: Tensor

    def __init__(self, student: Backbone, teacher: Backbone) -> None:
        super().__init__()
        mine, theirs = student.embedding_size, teacher.embedding_size
        self.wide = mine > theirs
        larger, smaller = max(mine, theirs), min(mine, theirs)
        self.register_buffer("P_0", nn.init.orthogonal_(torch.empty(larger, smaller)))
        self.lower = nn.Parameter(torch.zeros(larger, smaller))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        h_teacher = F.layer_norm(teacher.embedding, teacher.embedding.shape[1:])
        return F.smooth_l1_loss(F.linear(student.embedding, self.projection()), h_teacher)

    def projection(self) -> Tensor:
        """P (C_teacher, C_student)."""
        larger, smaller = self.lower.shape
        L = F.pad(self.lower.tril(-1), (0, larger - smaller))
        A = L - L.mT
        I = torch.eye(larger, dtype=A.dtype, device=A.device)
        # P_0 + A P_0 / 2 stays float32 under autocast, and solve would wait for the device
        P: Tensor = torch.linalg.solve_ex(I - A / 2, self.P_0 + A @ self.P_0 / 2).result
        return P.mT if self.wide else P
