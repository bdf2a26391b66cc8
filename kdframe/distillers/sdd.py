"""Scale decoupled distillation: Wei, Luo and Luo 2024, arXiv:2403.13512, equations 6 to 10."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.classifiers import classifier_of_mean
from kdframe.distillers.logits import logits_of
from kdframe.distillers.maps import pooled
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("sdd", needs=("teacher_classifier",))
class SDD(nn.Module):
    """Matches the class probabilities of the image's parts, too.

        pi = the classifier, on the last stage's map pooled to m x m cells, for m of ``scales``
        D  = T^2 KL(softmax(pi_teacher / T) || softmax(pi_student / T)) of a cell, in nats
        L  = the mean over images and all cells of  w D

    w is 1, and ``beta`` for a cell on which the teacher is right (its first class is the label)
    though it is wrong on the image, or the other way round.  0 for equal maps and classifiers;
    with ``scales`` (1,) it is ``kd``.  As the authors' code, it departs from the paper's text: a
    mean over cells where equation 9 has the sum (5 times as much for scales 1, 2 and 21 times for
    1, 2, 4), and two wrong answers count as consistent though their classes differ.  The paper has
    ``dkd`` and ``nkd`` as other choices for D.

    Raises:
        ValueError: a wrong option, a scale above a map's side, or a network whose logits aren't one
            linear layer over the mean of its last map.

    Published: .9 beside a cross entropy of .1 as for ``kd``, after a WARMUP of 30 epochs, with beta
    2 and scales 1, 2, or 1, 2, 4 for unlike networks.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        scales: tuple[int, ...] = (1, 2),
        beta: float = 2.0,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        above_0(temperature=temperature)
        from_0(beta=beta)
        side = min(*student.shapes[-1][1:], *teacher.shapes[-1][1:])
        if not scales or not all(1 <= m <= side for m in scales):
            raise ValueError(f"scales takes ints from 1 to the last map's {side}, not {scales}.")
        self.scales, self.beta, self.T = scales, beta, temperature
        # in a tuple: the networks' own, not this term's
        self._classifiers = classifier_of_mean(student, "student"), classifier_of_mean(teacher)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        y, maps = batch.target[:, None], (student.features[-1], teacher.features[-1])
        pi_student, pi_teacher = (
            self.cells(f, layer) for f, layer in zip(maps, self._classifiers, strict=True)
        )
        right = pi_teacher.argmax(dim=2) == y
        right_on_image = logits_of(student, teacher)[1].argmax(dim=1, keepdim=True) == y
        w = torch.where(right == right_on_image, 1.0, self.beta)
        log_p_student = F.log_softmax(pi_student / self.T, dim=2)
        log_p_teacher = F.log_softmax(pi_teacher / self.T, dim=2)
        D = F.kl_div(log_p_student, log_p_teacher, log_target=True, reduction="none").sum(dim=2)
        return self.T**2 * (w * D).mean()

    def cells(self, f: Tensor, layer: nn.Linear) -> Tensor:
        """The logits (B, cells, K) of all scales' cells."""
        regions = torch.cat([pooled(f, m, m).flatten(2) for m in self.scales], dim=2)
        bias = None if layer.bias is None else layer.bias.to(f.dtype)
        return F.linear(regions.transpose(1, 2), layer.weight.to(f.dtype), bias)
