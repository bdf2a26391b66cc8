"""Variational information distillation: Ahn et al. 2019, arXiv:1904.05835, after their code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, paired, same_size
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("vid")
class VID(nn.Module):
    """Regresses the teacher's maps as a Gaussian that may be unsure of a channel.

        v_c = log(1 + exp(r_c)) + eps
        L   = sum over stages of  mean( ((mu(f_student) - f_teacher)^2 / v_c + log v_c) / 2 )

    in nats, without the constant log(2 pi)/2.  r is learned, one number for each channel of the
    teacher's, and starts where v is ``init_variance``; mu is three learned 1x1 convolutions of the
    teacher's width, without bias, ReLU between.  The larger map is average-pooled before mu.  Not
    below log(eps)/2 for a stage.  The paper sums over positions and channels; the authors' code, as
    CRD's suite has it, takes the mean.  A later suite keeps r in a plain list, never trained.

    Raises:
        ValueError: a wrong stage, an eps that isn't above 0, a variance that isn't above eps.

    Published: WEIGHT 1 with cross entropy.  CIFAR-100: 73.09, 74.11, 71.23, 70.38.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        stages: Stages = (),
        init_variance: float = 5.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        above_0(eps=eps)
        if not init_variance > eps:
            raise ValueError(
                f"init_variance takes a number above eps ({eps}), not {init_variance}."
            )
        self.stages, self.eps = stages, eps
        softplus = init_variance - eps
        start = softplus + math.log(-math.expm1(-softplus))  # its inverse, for large numbers too
        self.mu, self.r = nn.ModuleList(), nn.ParameterList()
        for f_student, f_teacher in paired(student.probe(), teacher.probe(), stages):
            C = f_teacher.shape[1]
            self.mu.append(
                nn.Sequential(
                    nn.Conv2d(f_student.shape[1], C, kernel_size=1, bias=False),
                    nn.ReLU(),
                    nn.Conv2d(C, C, kernel_size=1, bias=False),
                    nn.ReLU(),
                    nn.Conv2d(C, C, kernel_size=1, bias=False),
                )
            )
            self.r.append(torch.full((C, 1, 1), start))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        stages = zip(self.mu, self.r, paired(student, teacher, self.stages), strict=True)
        for mu, r, maps in stages:
            f_student, f_teacher = same_size(*maps)
            v = F.softplus(r) + self.eps
            losses.append(((mu(f_student) - f_teacher).square() / v + v.log()).mean() / 2)
        return torch.stack(losses).sum()
