"""Activation boundaries: Heo et al. 2019, arXiv:1811.03233, the loss of the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, connector, paired, same_size
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("ab", needs=("preactivations",))
class AB(nn.Module):
    """Matches which neurons are active: the sign before the activation, not the value.

        y = 1 where f_teacher > 0, else -1
        L = sum over stages i = 0 .. n-1 of  2^(i-n+1) sum( max(0, m - y r_i(f_student))^2 ) / B

    m is ``margin``; r_i is a learned 1x1 convolution and BatchNorm, or nothing where channels are
    equal.  The sum is over channels and positions, so L grows with the maps; the last of
    ``stages`` weighs most.  0 where every neuron is on the teacher's side, m away from 0 at least;
    the size of the teacher's values means nothing.  The authors' r_i is everywhere or, for
    networks of equal width, nowhere; they run the teacher in train mode, kdframe in eval mode.
    Maps of different size: the larger is average-pooled.

    Raises:
        ValueError: a margin that isn't above 0, or a wrong stage.

    Published: WEIGHT 3e-3 on CIFAR (the factor 3/1000 of the public code; 1e-3 for transfer from
    ImageNet), alone at first, then kd or cross_entropy alone (STOP of this term, START of those).
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, margin: float = 1.0, stages: Stages = ()
    ) -> None:
        super().__init__()
        above_0(margin=margin)
        self.margin, self.stages = margin, stages
        self.connectors = nn.ModuleList(
            nn.Identity() if maps[0].shape[1] == maps[1].shape[1] else connector(*maps)
            for maps in paired(student.probe(), teacher.probe(), stages)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        m, n = self.margin, len(self.connectors)
        losses = []
        pairs = paired(student, teacher, self.stages)
        for i, (r, maps) in enumerate(zip(self.connectors, pairs, strict=True)):
            f_student, f_teacher = same_size(*maps)
            y = torch.where(f_teacher > 0, 1.0, -1.0).to(f_teacher)
            squares = F.relu(m - y * r(f_student)).square().sum()
            losses.append(2.0 ** (i - n + 1) * squares / len(y))
        return torch.stack(losses).sum()
