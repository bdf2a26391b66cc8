"""Flow of the solution procedure: Yim, Joo, Bae and Kim 2017, CVPR 2017, equations 1 and 2."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import adapters, paired, same_size
from kdframe.registry import DISTILLERS


@DISTILLERS.register("fsp")
class FSP(nn.Module):
    """Matches how the channels of one stage go with those of another.

        G = f_i f_j^T / (HW)                               (C_i, C_j), the larger map average-pooled
        L = sum over pairs (i, j) of  mean( (G_student - G_teacher)^2 )

    ``pairs`` names stages of both networks; ``()`` is each stage and the next, the stem included.
    A student's map goes through a learned 1x1 convolution where channels differ.  0 for equal
    maps.  The paper has a squared norm, C_i C_j times this mean, asks for equal channels, takes
    the largest of the pooled positions, and ends this term before the labels' begins.

    Raises:
        ValueError: a wrong stage, a pair that isn't one, or ``()`` where one network has more
            stages or both have one.

    Published, as in CRD's suite: alone for 30 epochs, WEIGHT 1 (STOP 30), then the labels alone
    (START 30); the weight 50 in its script has no effect.
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, pairs: tuple[tuple[int, int], ...] = ()
    ) -> None:
        super().__init__()
        counts = len(student.shapes), len(teacher.shapes)
        if not pairs and (counts[0] != counts[1] or counts[0] < 2):
            raise ValueError(
                f"pairs=() takes networks of 2 or more stages and equally many, not {counts[0]} of "
                f"the student and {counts[1]} of the teacher: name the pairs."
            )
        if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in pairs):
            raise ValueError(f"pairs takes pairs of stages, as ((1, 2), (2, 3)), not {pairs}.")
        self.pairs = pairs or tuple(itertools.pairwise(range(counts[0])))
        self.stages = tuple(dict.fromkeys(i for pair in self.pairs for i in pair))
        self.adapters = adapters(student, teacher, self.stages)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        maps = {}
        together = zip(self.adapters, paired(student, teacher, self.stages), strict=True)
        for i, (r, (f_student, f_teacher)) in zip(self.stages, together, strict=True):
            maps[i] = r(f_student), f_teacher
        losses = []
        for i, j in self.pairs:
            G_student, G_teacher = (flow(*f) for f in zip(maps[i], maps[j], strict=True))
            losses.append(F.mse_loss(G_student, G_teacher))
        return torch.stack(losses).sum()


def flow(f_i: Tensor, f_j: Tensor) -> Tensor:
    """G (B, C_i, C_j)."""
    f_i, f_j = (f.flatten(2) for f in same_size(f_i, f_j))
    return f_i @ f_j.mT / f_i.shape[2]
