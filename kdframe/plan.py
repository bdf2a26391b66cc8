"""The numbers of a training, the seeds of its draws, and how it can end before its end."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


class Diverged(RuntimeError):
    """A loss or a weight is no longer finite."""

    exit_code = 3


@dataclass(frozen=True)
class Plan:
    """The numbers of a training.

    ``batch_size`` is images per optimizer step, over all processes and all ``accumulate`` parts.
    """

    epochs: int
    batch_size: int
    schedule: Callable[[float], float]  # the learning rate at a fraction of the training, 0..1
    seed: int = 0
    accumulate: int = 1
    clip_grad: float = 0.0  # 0: none
    ema: float = 0.0  # the decay of the averaged weights; 0: none
    precision: torch.dtype = torch.float32
    checkpoint_minutes: float = 10.0  # 0: after every epoch
    checkpoint_keep: int = 2
    config: str = ""  # the digest of the config, kept in checkpoints
    about: dict[str, Any] | None = None  # what a file of weights says about itself


def seed_of(*numbers: int | str) -> int:
    """A seed that is a hash of what it is for, e.g. (seed, step, process)."""
    text = "/".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
