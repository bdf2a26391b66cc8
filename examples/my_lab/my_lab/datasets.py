"""Drawn stripes: no file, no download."""

import numpy as np
import torch
from numpy.typing import NDArray

from kdframe.datasets import Dataset, InMemory

CLASSES = ("horizontal", "falling", "vertical", "rising")
SIZE = 32  # of an image, in pixels


def my_stripes(split: str, *, train: int = 512, test: int = 256) -> Dataset:
    """Stripes in four directions, of any period, place and colours, with noise: 32x32.

    ``train`` and ``test`` are numbers of images; an image is a function of (split, item).

    Raises:
        ValueError: no such split, or fewer images than classes.
    """
    counts = {"train": train, "test": test}
    if split not in counts:
        raise ValueError(f"my_stripes has no split {split!r}: it has train and test.")
    if min(train, test) < len(CLASSES):
        raise ValueError(f"my_stripes takes {len(CLASSES)} images or more, not {train}, {test}.")
    number = list(counts).index(split)
    targets = torch.arange(counts[split]) % len(CLASSES)
    images = [
        draw(target, np.random.default_rng((number, item)))
        for item, target in enumerate(targets.tolist())
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return InMemory(pixels, targets, CLASSES, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def draw(target: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """One image (32, 32, 3) of a class, with all that is random taken from ``random``."""
    y, x = np.mgrid[:SIZE, :SIZE]
    across = (y, y - x, x, y + x)[target] / random.uniform(4, 10) + random.uniform()
    ink = (across % 1 < 0.5)[:, :, None]
    paper, pen = random.uniform(0, 255, size=(2, 3))
    noise = 40 * random.standard_normal((SIZE, SIZE, 3))
    image: NDArray[np.uint8] = (np.where(ink, pen, paper) + noise).clip(0, 255).astype(np.uint8)
    return image
