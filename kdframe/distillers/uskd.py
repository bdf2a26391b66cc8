"""Self-distillation by soft labels: Yang et al. 2023, arXiv:2303.13005, as in the authors' code."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import log_parts
from kdframe.distillers.ranges import from_0, one_of
from kdframe.registry import DISTILLERS


@DISTILLERS.register("uskd", needs=("global_batch",))
class USKD(nn.Module):
    """Makes soft labels of the student's own answer and of an earlier stage's; no teacher.

        S = softmax(z),  W = softmax of a linear layer on the pooled stage,  y the label
        target = -(S_y^2 + 1 - the batch's mean of S_y^2) log S_y
        others = -sum over k != y of  Z_k log(S_k / (1 - S_y))
        weak   = -sum_k V_k log W_k,  V the label smoothed by 0.1
        L      = alpha target + beta others + mu weak,  the means over images, in nats

    Z is Zipf's law, 1/rank and then summing to 1 over k != y, where the rank of a class among all
    K, y's too, is that of

        R_k = W_k / (1 - W_y) + S_k / (1 - S_y)                   variant "paper"
        R_k = W_k / (1 - W_y) + log S_k / (1 - log S_y)           variant "code"

    each divisor with 1e-6 added.  The factors of log S_y and of the others are held constant.  The
    authors' code, which has the logarithms, is the default.  L isn't 0 at its minimum.  The linear
    layer is for training only; ``stage`` is the one before the last, as theirs.

    Published: 1 with alpha 1, beta .1 and mu .005 (ImageNet) or .1, .1 and .1 (ResNet-18 on
    CIFAR-100), beside a cross entropy of 1.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone | None,
        *,
        stage: int = -2,
        alpha: float = 1.0,
        beta: float = 0.1,
        mu: float = 0.005,
        variant: str = "code",
    ) -> None:
        super().__init__()
        from_0(alpha=alpha, beta=beta, mu=mu)
        one_of("variant", variant, ("code", "paper"))
        self.stage, self.alpha, self.beta, self.mu = stage, alpha, beta, mu
        self.variant = variant
        (channels,) = student.channels_of((stage,))
        self.classifier = nn.Linear(channels, student.num_classes)

    def forward(self, student: Output, teacher: Output | None, batch: Batch) -> Tensor:
        (f,) = student.maps((self.stage,))
        z, w, y = student.logits, self.classifier(f.mean(dim=(2, 3))), batch.target[:, None]
        log_S = F.log_softmax(z, dim=1)
        log_S_y = log_S.gather(1, y)
        square = (2 * log_S_y.detach()).exp()
        target = -((square + 1 - square.mean()) * log_S_y).mean()
        Z = self.zipf(log_S.detach(), F.softmax(w.detach(), dim=1), y)
        log_b, _ = log_parts(z, batch.target)  # log S_y and log (1 - S_y)
        others = (log_b[:, 1] - (Z * log_S).sum(dim=1)).mean()
        weak = F.cross_entropy(w, batch.target, label_smoothing=0.1)
        return self.alpha * target + self.beta * others + self.mu * weak

    def zipf(self, log_S: Tensor, W: Tensor, y: Tensor) -> Tensor:
        """Z (B, K), 0 at y."""
        S = log_S if self.variant == "code" else log_S.exp()
        R_W, R_S = (v / (1 - v.gather(1, y) + 1e-6) for v in (W, S))
        rank = 1 + (R_W + R_S).argsort(dim=1, descending=True).argsort(dim=1)
        Z = (1 / rank).scatter(1, y, 0.0).to(log_S.dtype)
        return Z / Z.sum(dim=1, keepdim=True)
