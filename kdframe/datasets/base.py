"""The contract of datasets: uint8 images with a class, and what a batch of them is."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.utils.data
from torch import Tensor


class Batch(NamedTuple):
    """B images, ready for a network."""

    image: Tensor  # (B, 3, H, W), normalised
    target: Tensor  # (B,), the class of each
    item: Tensor  # (B,), the number of each in its split
    epoch: float  # with its fraction: 2.5 is the middle of the third
    view: Tensor | None = None  # (B, 3, H, W), augmented more strongly; only if a term needs views

    def parts(self, count: int) -> Iterator["Batch"]:
        """Equal parts, in its order."""
        columns = [c.chunk(count) for c in (self.image, self.target, self.item)]
        views = self.view.chunk(count) if self.view is not None else [None] * count
        for image, target, item, view in zip(*columns, views, strict=True):
            yield Batch(image, target, item, self.epoch, view)


class Dataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """One split of a set of images: ``[i] -> (uint8 (3, H, W), class number)``.

    ``mean`` and ``std`` are a channel's, of pixels in 0..1.  ``size`` is the (height, width) that
    networks see; an image of another size is brought to it when it is loaded.  ``splits`` holds
    "val" only where the set has a third split of its own.  ``room`` is how many bytes its images
    were allowed to take in memory, once that was a question.
    """

    classes: Sequence[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]
    splits: tuple[str, ...] = ("train", "test")
    room: int | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        raise NotImplementedError

    def tensors(self) -> tuple[Tensor, Tensor] | None:
        """All images (N, 3, H, W) uint8 and targets (N,) int64, where that fits in memory."""
        return None

    def identity(self) -> str:
        """What tells this set's files from others', for a set that isn't held in memory."""
        return f"{type(self).__module__}.{type(self).__qualname__} of {len(self)}"

    def labels(self) -> Tensor:
        """The class of every image (N,) int64; reads them all unless a set knows better."""
        held = self.tensors()
        return held[1] if held else torch.tensor([self[i][1] for i in range(len(self))])


class InMemory(Dataset):
    """A split that is two tensors: images (N, 3, H, W) uint8 and targets (N,) int64."""

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        classes: Sequence[str],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        self.images, self.targets, self.classes = images, targets, classes
        self.mean, self.std = mean, std
        self.size = (images.shape[2], images.shape[3])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.targets[i])

    def tensors(self) -> tuple[Tensor, Tensor]:
        return self.images, self.targets
