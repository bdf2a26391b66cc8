"""Channel-wise distillation: Shu et al. 2021, arXiv:2011.13256, after the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl
from kdframe.distillers.maps import Stages, adapters, paired, same_size
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("cwd")
class CWD(nn.Module):
    """Matches where in the image each channel is active, as a distribution over positions.

        p(f) = softmax(f / T) over the HW positions of a channel
        L    = sum over stages of  T^2 KL(p(f_teacher) || p(r(f_student)))

    The mean over images and channels, in nats, as in the authors' code.  r is a learned 1x1
    convolution where channels differ, without a bias: a number added to a whole channel means
    nothing.  The larger map is average-pooled.  0 for equal maps, and for maps of one position.

    Raises:
        ValueError: a wrong stage, or a temperature that isn't above 0.

    Published, for the class maps of a segmentation: WEIGHT 3, T 4.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        stages: Stages = (-1,),
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        above_0(temperature=temperature)
        self.stages, self.temperature = stages, temperature
        self.adapters = adapters(student, teacher, stages, bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = []
        for r, maps in zip(self.adapters, paired(student, teacher, self.stages), strict=True):
            f_student, f_teacher = same_size(*maps)
            log_p_student, log_p_teacher = (
                F.log_softmax(f.flatten(0, 1).flatten(1) / self.temperature, dim=1)
                for f in (r(f_student), f_teacher)
            )
            losses.append(self.temperature**2 * kl(log_p_teacher, log_p_student))
        return torch.stack(losses).sum()
