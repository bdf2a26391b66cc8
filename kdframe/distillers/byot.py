"""Be your own teacher: Zhang et al. 2019, arXiv:1905.08094, section 3 (from memory)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import kl
from kdframe.distillers.ranges import above_0, from_0, from_0_to_1, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("byot")
class BYOT(nn.Module):
    """Classifiers on a network's earlier stages learn from its last; there is no teacher.

        F_i = the pooled bottleneck on stage i,  z_i = a linear layer on it
        F, z = the network's own embedding and logits, which this doesn't train
        L = sum over stages i of  (1 - alpha) CE(z_i, y)
                                  + alpha KL(softmax(z / T) || softmax(z_i / T)) + hint ||F_i - F||

    CE and KL are means over images, in nats, without T^2.  The norm is Euclidean, over the whole
    batch as in the authors' later code (variant "code"), so it grows as the root of its size; the
    paper has the square, here its mean over images (variant "paper").  The network's own cross
    entropy is ``cross_entropy``.  L isn't 0 at its minimum, as the labels are in it.

    ``stages=()`` is all but the stem and the last.  A bottleneck is three convolutions, 1x1, k x k
    with stride k and 1x1, a quarter of F wide within, each with BatchNorm and ReLU; k is how many
    times the stage is higher than the last.  The classifiers are for training only.  Departs from
    the authors' later code, which has separable convolutions and attention, another linear layer
    before the norm, and no norm for one of the stages.

    Raises:
        ValueError: a wrong option, or a network of one stage.

    Published: 1 with alpha .3, hint .03 and T 3, beside a cross entropy of 1.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone | None,
        *,
        stages: tuple[int, ...] = (),
        alpha: float = 0.3,
        hint: float = 0.03,
        temperature: float = 3.0,
        variant: str = "code",
    ) -> None:
        super().__init__()
        from_0_to_1(alpha=alpha)
        from_0(hint=hint)
        above_0(temperature=temperature)
        one_of("variant", variant, ("code", "paper"))
        *earlier, last = student.stages_of()
        self.stages = student.stages_of(stages) if stages else tuple(earlier)
        if not self.stages:
            raise ValueError("byot takes a student of two stages at least, besides its stem.")
        self.alpha, self.hint, self.T, self.variant = alpha, hint, temperature, variant
        C, height = student.embedding_size, student.shapes[last][1]
        self.bottlenecks = nn.ModuleList(
            bottleneck(student.shapes[i][0], C, max(1, student.shapes[i][1] // height))
            for i in self.stages
        )
        self.classifiers = nn.ModuleList(nn.Linear(C, student.num_classes) for _ in self.stages)

    def forward(self, student: Output, teacher: Output | None, batch: Batch) -> Tensor:
        deepest, log_p = student.embedding.detach(), self.soft(student.logits.detach())
        losses = []
        for f, bottleneck, classifier in zip(
            student.maps(self.stages), self.bottlenecks, self.classifiers, strict=True
        ):
            own = bottleneck(f)
            z = classifier(own)
            norm = torch.linalg.vector_norm(own - deepest)
            losses += [
                (1 - self.alpha) * F.cross_entropy(z, batch.target),
                self.alpha * kl(log_p, self.soft(z)),
                self.hint * (norm if self.variant == "code" else norm**2 / len(own)),
            ]
        return torch.stack(losses).sum()

    def soft(self, z: Tensor) -> Tensor:
        """The logarithms of softened probabilities."""
        return F.log_softmax(z / self.T, dim=1)


def bottleneck(channels: int, width: int, k: int) -> nn.Sequential:
    """From a map (B, channels, H, W) to a vector (B, width)."""
    within = max(1, width // 4)
    return nn.Sequential(
        nn.Conv2d(channels, within, kernel_size=1, bias=False),
        nn.BatchNorm2d(within),
        nn.ReLU(),
        nn.Conv2d(within, within, kernel_size=k, stride=k, bias=False),
        nn.BatchNorm2d(within),
        nn.ReLU(),
        nn.Conv2d(within, width, kernel_size=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
