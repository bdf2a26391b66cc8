"""Several teachers' soft labels: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 1."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl, logits_of
from kdframe.distillers.ranges import above_0, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("kd_ensemble", needs=("teachers",))
def kd_ensemble(
    student: Output,
    teacher: Output | tuple[Output, ...],
    batch: Batch,
    *,
    temperature: float = 4.0,
    ensemble: str = "probabilities",
) -> Tensor:
    """Matches the softened class probabilities of several teachers, averaged.

        p(z) = softmax(z / T)
        P    = mean over teachers of p(z_teacher)          ensemble "probabilities"
        P    = p(mean over teachers of z_teacher)          ensemble "logits"
        L    = T^2 KL(P || p(z_student)),  the mean over images, in nats

    The paper's arithmetic mean and, normalised, its geometric mean.  0 where p(z_student) is P.
    One teacher, in a tuple or not, is ``kd``.

    Published: no weights; those of ``kd`` are 0.1 cross_entropy + 0.9.
    """
    above_0(temperature=temperature)
    one_of("ensemble", ensemble, ("probabilities", "logits"))
    T = temperature
    teachers = (teacher,) if isinstance(teacher, Output) else teacher
    z_teachers = torch.stack([logits_of(student, one)[1] for one in teachers])
    if ensemble == "logits":
        log_P = F.log_softmax(z_teachers.mean(dim=0) / T, dim=1)
    else:
        log_p = F.log_softmax(z_teachers / T, dim=2)
        log_P = log_p.logsumexp(dim=0) - math.log(len(z_teachers))
    return T**2 * kl(log_P, F.log_softmax(student.logits / T, dim=1))
