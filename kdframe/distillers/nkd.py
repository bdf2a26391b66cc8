"""Normalized KD: Yang et al. 2023, arXiv:2303.13005, section 3.1 and the authors' code."""

import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import log_parts, logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("nkd")
def nkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
) -> Tensor:
    """Weighs the label by the teacher's belief in it, and matches its ranking of the others.

        T = softmax(z_teacher),  S = softmax(z_student);  t the label
        N(.^lambda) = softmax over the K - 1 other classes of z / lambda
        L = -T_t log S_t - gamma lambda^2 sum_{i != t} N(T_i^lambda) log N(S_i^lambda)

    The mean over images, in nats; lambda is ``temperature``, and the label's part has none.  The
    second part is dkd's for beta = gamma, more by the entropy of N(T); the first lacks dkd's
    (1 - T_t) log(1 - S_t).  Both are cross entropies: equal logits do not score 0.

    Published: 1 cross_entropy + 1 nkd on ImageNet; GAMMA 3.5 and TEMPERATURE 3 in the authors'
    config for ResNet34 -> ResNet18 on CIFAR-100.
    """
    from_0(gamma=gamma)
    above_0(temperature=temperature)
    t = batch.target[:, None]
    z_student, z_teacher = logits_of(student, teacher)
    log_S_t = F.log_softmax(z_student, dim=1).gather(1, t)
    T_t = F.softmax(z_teacher, dim=1).gather(1, t)
    _, log_N_student = log_parts(z_student / temperature, batch.target)
    _, log_N_teacher = log_parts(z_teacher / temperature, batch.target)
    others = F.cross_entropy(log_N_student, log_N_teacher.exp())
    return gamma * temperature**2 * others - (T_t * log_S_t).mean()
