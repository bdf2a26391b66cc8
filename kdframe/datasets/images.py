"""What sets of files share: images brought to one size, and kept in memory where they fit."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from kdframe.datasets.base import Dataset

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

MOST_BYTES = 4 * 2**30  # of decoded images in memory
MEMINFO = Path("/proc/meminfo")


class BrokenImage(ValueError):
    """A file that isn't the image it should be."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        # a worker sends its whole traceback, which ends on what was said
        super().__init__(text.rpartition("BrokenImage: ")[2].strip())


def fit(image: Tensor, size: tuple[int, int], shorter: float = 1.0) -> Tensor:
    """A uint8 image (3, h, w) as (3, H, W): scaled until it covers ``size``, and centre-cropped.

    ``shorter`` scales it further, e.g. 1 / 0.875 leaves a border for the crop to cut off.
    """
    h, w = shape_of(image)
    scale = shorter * max(size[0] / h, size[1] / w)
    scaled = [max(size[0], round(h * scale)), max(size[1], round(w * scale))]
    if scaled != [h, w]:
        image = TF.resize(image, scaled, antialias=True)
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return image[:, top : top + size[0], left : left + size[1]]


def shape_of(image: Tensor) -> tuple[int, int]:
    """(height, width)."""
    return image.shape[1], image.shape[2]


def room() -> int:
    """Bytes that decoded images may take in memory: 4 GiB, or a quarter of what is free."""
    free = 4 * MOST_BYTES
    if MEMINFO.exists():  # what the page cache holds is free, and SC_AVPHYS_PAGES doesn't count it
        words = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(words["MemAvailable"].split()[0])
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MOST_BYTES, free // 4)


def decoded(dataset: Dataset) -> tuple[Tensor, Tensor] | None:
    """All images of ``dataset`` as one tensor, and their targets; None if they take too much.

    Too much is more than ``room``, which is noted in ``dataset.room``.
    """
    count, (H, W) = len(dataset), dataset.size
    dataset.room = room()
    if count * 3 * H * W > dataset.room:
        return None
    images = torch.empty(count, 3, H, W, dtype=torch.uint8)
    targets = torch.empty(count, dtype=torch.int64)

    def decode(items: range) -> None:
        for i in items:
            image, targets[i] = dataset[i]
            images[i] = fit(image, dataset.size)

    threads = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, [range(start, count, threads) for start in range(threads)]):
            pass  # a broken image's error is raised here
    return images, targets
