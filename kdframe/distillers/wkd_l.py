"""WKD-L: Lv, Yang and Li 2024, arXiv:2412.08139, section 3.1, as in the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.classifiers import linear_classifier
from kdframe.distillers.logits import logits_of
from kdframe.distillers.ranges import above_0, from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("wkd_l", needs=("teacher_classifier",))
class WKDL(nn.Module):
    """Moves the student's probabilities to the teacher's, which is cheap between like classes.

        c_ij   = 1 - exp(-kappa (1 - cos(w_i, w_j))),  w the teacher's classifier's rows
        q      = softmax(z / T) over the K - 1 classes other than the label y
        target = -p_teacher,y log p_student,y,  p at T 1
        L      = target + gamma W(q_student, q_teacher),  the means over images

    W is the cost of the transport that ``iterations`` of Sinkhorn's algorithm find for the cost
    c >= 0 with the entropy weighted by ``entropy``, 1e-8 added to their divisors.  kappa is
    ``sharpness``, 0 for c = 1 - cos.  No T^2.  L isn't 0 at its minimum, which is nearly at equal
    logits.  Departs from the paper, whose c is of the classes' CKA over the training set: the
    classifier's is their code's other one.  The label is left out by giving it no mass, so all
    images share a K x K kernel and one iteration is two products with it.

    Raises:
        ValueError: a wrong option, or a teacher whose classifier isn't linear.

    Published: gamma is tuned for each pair, and falls to 0 by a cosine from epoch 150 of 240.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        gamma: float = 100.0,
        temperature: float = 4.0,
        sharpness: float = 1.0,
        entropy: float = 0.05,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        above_0(temperature=temperature, entropy=entropy, iterations=iterations)
        from_0(gamma=gamma, sharpness=sharpness)
        self.gamma, self.T = gamma, temperature
        self.sharpness, self.entropy, self.iterations = sharpness, entropy, iterations
        self._classifier = (
            linear_classifier(teacher),
        )  # no part of this; its weights may come later

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        z_student, z_teacher = logits_of(student, teacher)
        y = batch.target[:, None]
        p_y = F.softmax(z_teacher, dim=1).gather(1, y)
        target = -(p_y * F.log_softmax(z_student, dim=1).gather(1, y)).mean()
        q_student, q_teacher = (
            F.softmax((z / self.T).scatter(1, y, -torch.inf), dim=1) for z in (z_student, z_teacher)
        )
        return target + self.gamma * self.transport(q_student, q_teacher, y).mean()

    def cost(self) -> Tensor:
        """C (K, K)."""
        w = F.normalize(self._classifier[0].weight.detach(), dim=1)
        cost = 1 - w @ w.T
        cost = 1 - (-self.sharpness * cost).exp() if self.sharpness else cost
        return cost.clamp(min=0) + 1e-8

    def transport(self, q_student: Tensor, q_teacher: Tensor, y: Tensor) -> Tensor:
        """W (B,) of rows of K masses, none at y."""
        cost = self.cost().to(q_student.dtype)
        kernel = (-cost / self.entropy).exp()
        u = torch.full_like(q_student, 1 / (q_student.shape[1] - 1)).scatter(1, y, 0.0)
        for _ in range(self.iterations):
            v = q_teacher / (u @ kernel + 1e-8)
            u = q_student / (v @ kernel + 1e-8)  # the kernel is symmetric
        return ((u @ (kernel * cost)) * v).sum(dim=1)
