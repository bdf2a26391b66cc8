"""What terms on logits share: logits of equal classes, their divergence, the label taken out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output


def logits_of(student: Output, teacher: Output) -> tuple[Tensor, Tensor]:
    """Both networks' logits, (B, K) each.

    Raises:
        ValueError: the networks know other numbers of classes, or saw other numbers of images.
    """
    if student.logits.shape != teacher.logits.shape:
        raise ValueError(
            f"the student's logits are {tuple(student.logits.shape)} and the teacher's "
            f"{tuple(teacher.logits.shape)} (images, classes): they must be alike."
        )
    return student.logits, teacher.logits


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (B, K), in nats: the sum over classes, mean over images."""
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def log_parts(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of (p_y, 1 - p_y) (B, 2) and of the softmax over the others (B, K - 1)."""
    y = target[:, None]
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = others + (others >= y)  # a gather by number: a mask would wait for the device
    log_p = F.log_softmax(logits, dim=1)
    log_p_others = log_p.gather(1, others)
    log_b = torch.cat((log_p.gather(1, y), log_p_others.logsumexp(dim=1, keepdim=True)), dim=1)
    return log_b, F.log_softmax(log_p_others, dim=1)
