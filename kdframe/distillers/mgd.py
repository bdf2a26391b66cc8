"""Masked generative distillation: Yang et al. 2022, arXiv:2205.01529, after the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, adapters, paired, same_size
from kdframe.distillers.ranges import from_0_to_1, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("mgd")
class MGD(nn.Module):
    """Makes the teacher's whole map from the student's with random parts of it missing.

        L = sum over stages of  ||G(M r(f_student)) - f_teacher||^2 / B

    M is 0 with probability ``ratio`` and else 1, drawn anew for every image and channel
    (``mask`` "channels", as in the authors' code for classification) or for every image and
    position ("positions", as in the paper's text and for detection).  G is two learned 3x3
    convolutions of the teacher's width, ReLU between; r a learned 1x1 convolution where channels
    differ.  A sum, as published, so it grows with the map: C_teacher HW times the mean.  The larger
    map is average-pooled.  0 where G is exact.

    Raises:
        ValueError: a wrong stage or option.

    Published, for ImageNet's last stage (7x7, 512 wide): WEIGHT 7e-5, ratio .15, cross entropy.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        stages: Stages = (-1,),
        ratio: float = 0.15,
        mask: str = "channels",
    ) -> None:
        super().__init__()
        from_0_to_1(ratio=ratio)
        one_of("mask", mask, ("channels", "positions"))
        self.stages, self.ratio, self.mask = stages, ratio, mask
        self.adapters = adapters(student, teacher, stages)
        self.generators = nn.ModuleList()
        for _, f_teacher in paired(student.probe(), teacher.probe(), stages):
            C = f_teacher.shape[1]
            self.generators.append(
                nn.Sequential(
                    nn.Conv2d(C, C, kernel_size=3, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(C, C, kernel_size=3, padding=1),
                )
            )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        pairs = paired(student, teacher, self.stages)
        for r, G, maps in zip(self.adapters, self.generators, pairs, strict=True):
            f_student, f_teacher = same_size(*maps)
            masked = self.masked(r(f_student))
            squares = F.mse_loss(G(masked), f_teacher, reduction="sum")
            losses.append(squares / len(f_teacher))
        return torch.stack(losses).sum()

    def masked(self, f: Tensor) -> Tensor:
        """M f."""
        B, C, H, W = f.shape
        shape = (B, C, 1, 1) if self.mask == "channels" else (B, 1, H, W)
        return f * (torch.rand(shape, device=f.device) >= self.ratio)
