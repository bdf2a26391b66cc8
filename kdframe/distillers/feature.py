"""Feature maps of several stages, after FitNets: Romero et al. 2015, arXiv:1412.6550."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, adapters, paired, same_size
from kdframe.distillers.ranges import one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("feature")
class Feature(nn.Module):
    """Regresses the teacher's stage features from the student's.

        L = sum over stages i of  mean( (r_i(f_student,i) - f_teacher,i)^2 )

    r_i is a learned 1x1 convolution: where channels differ (``adapter`` "auto"), everywhere
    ("conv") or nowhere ("none").  ``reduction`` "batch" is the sum of squares over B instead of
    the mean.  Departs from the paper: several stages, no half, a linear r_i, and where maps differ
    in size the larger is average-pooled.  0 for equal maps without an adapter.

    Raises:
        ValueError: a wrong option or stage, or channels that differ under "none".

    Published: not in this form; ``fitnet`` is the one that papers compare with.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        stages: Stages = (),
        adapter: str = "auto",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        one_of("adapter", adapter, ("auto", "none", "conv"))
        one_of("reduction", reduction, ("mean", "batch"))
        self.stages, self.reduction = stages, reduction
        self.adapters = adapters(student, teacher, stages, everywhere=adapter == "conv")
        pairs = paired(student.probe(), teacher.probe(), stages)
        for r, (f_student, f_teacher) in zip(self.adapters, pairs, strict=True):
            if adapter == "none" and not isinstance(r, nn.Identity):
                raise ValueError(
                    "adapter='none' takes maps of equal channels, not the student's "
                    f"{tuple(f_student.shape[1:])} and the teacher's {tuple(f_teacher.shape[1:])}."
                )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        for r, maps in zip(self.adapters, paired(student, teacher, self.stages), strict=True):
            f_student, f_teacher = same_size(*maps)
            if self.reduction == "mean":
                losses.append(F.mse_loss(r(f_student), f_teacher))
            else:
                squares = F.mse_loss(r(f_student), f_teacher, reduction="sum")
                losses.append(squares / len(f_student))
        return torch.stack(losses).sum()
