"""Draws without a generator: functions of numbers, alike on every device and in every process."""

import torch
from torch import Tensor

MASK = 2**32 - 1


def spans(seed: Tensor, total: Tensor, count: int) -> Tensor:
    """``count`` of the places 0 .. ``total`` - 1 for each of B, each as likely as another.

    One from each of ``count`` equal spans, all turned by one draw, so that no place comes twice
    where there are enough of them, and otherwise each comes about as often as another.  ``seed``
    (B,) is below 2^32, ``total`` (B,) above 0.
    """
    k, total, seed = torch.arange(count, device=seed.device), total[:, None], seed[:, None]
    low, high = k * total // count, (k + 1) * total // count
    within = scrambled((seed + k) & MASK) * (high - low) >> 32
    place = low + within + (scrambled(seed ^ MASK) * total >> 32)
    return place - total * (place >= total)


def scrambled(x: Tensor) -> Tensor:
    """A one-to-one hash of int64 numbers from 0 to 2^32 - 1 (none of its products overflows)."""
    x = (x ^ x >> 16) * 0x21F0AAAD & MASK
    x = (x ^ x >> 15) * 0x735A2D97 & MASK
    return x ^ x >> 15
