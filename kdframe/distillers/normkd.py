"""NormKD: Chi et al. 2023, arXiv:2308.00520, as in the authors' code."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("normkd")
def normkd(student: Output, teacher: Output, batch: Batch, *, temperature: float = 2.0) -> Tensor:
    """Soft labels, each image at a temperature of its own.

        s = T std(z) of each image and network, the unbiased std over classes
        L = the mean over images of  s_teacher^2 KL(softmax(z_teacher / s_teacher)
                                                    || softmax(z_student / s_student)),  in nats

    0 where the logits are equal up to a shift and a scale.  ``kd`` with ``standardize`` leaves out
    the factor std(z_teacher)^2.  Departs from the public code: 1e-7 is added to the std, which is 0
    where an image's logits are all equal.

    Published: .9 beside a cross entropy of .1, with T 2.
    """
    above_0(temperature=temperature)
    z_student, z_teacher = logits_of(student, teacher)
    s_student, s_teacher = (
        temperature * (z.std(dim=1, keepdim=True) + 1e-7) for z in (z_student, z_teacher)
    )
    log_p_student = F.log_softmax(z_student / s_student, dim=1)
    log_p_teacher = F.log_softmax(z_teacher / s_teacher, dim=1)
    divergence = F.kl_div(log_p_student, log_p_teacher, log_target=True, reduction="none")
    return (s_teacher**2 * divergence).sum(dim=1).mean()
