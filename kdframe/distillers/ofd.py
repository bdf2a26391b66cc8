"""Overhaul of feature distillation: Heo et al. 2019, arXiv:1904.01866, as in the authors' code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, connector, paired, same_size, sides
from kdframe.registry import DISTILLERS

BatchNorm = nn.modules.batchnorm._BatchNorm


@DISTILLERS.register("ofd", needs=("preactivations",))
class OFD(nn.Module):
    """Matches maps before the activation, but for what is too negative to matter.

        S = r_i(f_student),   T = max(f_teacher, m)
        m = E[x | x < 0] for x ~ N(beta, gamma^2), a number a channel
        L = sum over stages i = 0 .. n-1 of  2^(i-n+1) sum( d(S, T) ) / B
        d = 0 where S <= T <= 0, else (S - T)^2

    beta and gamma are bias and weight of the teacher's last BatchNorm before the activation;
    where P(x < 0) <= .001, m is -3 |gamma|, as in the authors' code.  r_i is a learned 1x1
    convolution and BatchNorm, for equal channels too.  The sum is over channels and positions, so
    L grows with the maps; the last of ``stages`` weighs most.  0 where S is T above 0, and not
    above T elsewhere.  The authors run the teacher in train mode, kdframe in eval mode.  Maps of
    different size: the larger is average-pooled.

    Raises:
        ValueError: a wrong stage, or a teacher's stage without a BatchNorm that has weights for
            each of its channels.

    Published: WEIGHT 1e-3, with cross_entropy 1.
    """

    def __init__(self, student: Backbone, teacher: Backbone, *, stages: Stages = ()) -> None:
        super().__init__()
        self.stages = stages
        self.connectors = nn.ModuleList(
            connector(*maps) for maps in paired(student.probe(), teacher.probe(), stages)
        )
        # a tuple, for they are the teacher's; its weights may be loaded later than this
        self.norms = tuple(norm_of(teacher, i) for i in teacher.stages_of(sides(stages)[1]))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        n = len(self.norms)
        losses = []
        pairs = paired(student, teacher, self.stages)
        for i, (r, norm, maps) in enumerate(zip(self.connectors, self.norms, pairs, strict=True)):
            f_student, f_teacher = same_size(*maps)
            S, T = r(f_student), torch.maximum(f_teacher, margin(norm))
            d = F.mse_loss(torch.where((S <= T) & (T <= 0), T, S), T, reduction="sum")
            losses.append(2.0 ** (i - n + 1) * d / len(S))
        return torch.stack(losses).sum()


def norm_of(teacher: Backbone, stage: int) -> BatchNorm:
    """The norm that says how the maps before a stage's activation are distributed."""
    norm = teacher.taps[stage].norm
    if not isinstance(norm, BatchNorm) or not norm.affine:
        raise ValueError(
            "ofd takes its margins from a BatchNorm with weights before each of the teacher's "
            f"activations; that of stage {stage} is {norm}."
        )
    channels = teacher.shapes[stage][0]
    if norm.num_features != channels:  # the stage's map is put together from others
        raise ValueError(
            f"ofd takes its margins from a BatchNorm of all {channels} channels of the teacher's "
            f"stage {stage}; the one before its activation has {norm.num_features}."
        )
    return norm


def margin(norm: BatchNorm) -> Tensor:
    """The number m of each channel, (C, 1, 1)."""
    # detached: a teacher that learns too doesn't learn from its margins
    beta, gamma = norm.bias.detach(), norm.weight.detach().abs()
    z = beta / gamma
    # pdf(z) / cdf(-z) of the standard normal, in a form that neither over- nor underflows
    ratio = math.sqrt(2 / math.pi) / torch.special.erfcx(z / math.sqrt(2))
    below_0 = torch.special.ndtr(-z)
    return torch.where(below_0 > 0.001, beta - gamma * ratio, -3 * gamma).view(-1, 1, 1)
