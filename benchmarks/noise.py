"""Images of CIFAR's shape that no speed depends on: noise, so that nothing is downloaded."""

import torch

from kdframe.datasets import Dataset
from kdframe.datasets.base import InMemory
from kdframe.registry import DATASETS

CLASSES = 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@DATASETS.register("noise")
def noise(split: str, *, train: int = 3200, test: int = 512) -> Dataset:
    """uint8 images (3, 32, 32) in 100 classes, the same in every process."""
    count = {"train": train, "test": test}[split]
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
    classes = tuple(f"class {i}" for i in range(CLASSES))
    return InMemory(images, torch.arange(count) % CLASSES, classes, MEAN, STD)
