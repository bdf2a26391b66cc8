"""What terms on logits share: logits of equal classes, the divergence, the teacher's classifier."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output


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


def linear_classifier(teacher: Backbone) -> nn.Linear:
    """The teacher's layer from embedding to logits.

    Raises:
        ValueError: it has no single one, or one that isn't linear.
    """
    classifier = teacher.classifier
    if type(classifier) is not nn.Linear:  # a subclass may do more than W h + b
        raise ValueError(
            f"it takes a teacher whose classifier is a Linear, not {type(classifier).__name__}."
        )
    return classifier
