"""Whether a network's confidence is worth something, and which classes it knows."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: Guo et al. 2017, arXiv:1706.04599, section 2.

    Bins (a, b] of equal width over the largest probability.  ``confidence`` and ``accuracy`` are
    sums over a bin's images, so that diagrams of several seeds add up.
    """

    count: list[float]
    confidence: list[float]
    accuracy: list[float]

    @property
    def ece(self) -> float:
        """The expected calibration error, 0..1 (equation 3)."""
        gaps = (abs(c - a) for c, a in zip(self.confidence, self.accuracy, strict=True))
        return sum(gaps) / max(sum(self.count), 1.0)


def reliability(logits: Tensor, target: Tensor, bins: int = BINS) -> Reliability:
    """Of logits (N, K) and classes (N,)."""
    p, named = F.softmax(logits.double(), dim=1).max(dim=1)
    bin_of = (p * bins).ceil().long().clamp(1, bins) - 1
    columns = torch.stack([torch.ones_like(p), p, (named == target).double()])
    count, confidence, accuracy = p.new_zeros(3, bins).index_add_(1, bin_of, columns).tolist()
    return Reliability(count, confidence, accuracy)


def by_class(logits: Tensor, target: Tensor) -> tuple[list[int], list[int]]:
    """Of logits (N, K) and classes (N,): each class's images, and how many are named rightly."""
    K = logits.shape[1]
    right = target[logits.argmax(dim=1) == target]
    images, hits = (torch.bincount(t, minlength=K).tolist() for t in (target, right))
    return images, hits
