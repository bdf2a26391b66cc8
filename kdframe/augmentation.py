"""Random crops and flips, whose random numbers are hashes of (seed, epoch, item): no state."""

import hashlib
import math

import torch
import torch.nn.functional as F
import torch.utils.data
from torch import Tensor
from torchvision.transforms.v2 import RandAugment
from torchvision.transforms.v2 import functional as TF

from kdframe.datasets import Dataset
from kdframe.datasets.images import fit

ATTEMPTS = 10  # at a box that lies within the image
STRONG = 1  # the draw of ``strong``; that of ``crop_flip`` is 0
RAND_AUGMENT = RandAugment()


def hashed(seed: int, epoch: int, item: Tensor, draw: int) -> Tensor:
    """A number in [0, 1) for each item, the same on every device.

    It is a draw of SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195), whose
    state begins at a hash of (seed, epoch, draw).  24 bits, so that a float32 holds it exactly.
    """
    word = hashlib.blake2b(f"{seed}/{epoch}/{draw}".encode(), digest_size=8).digest()
    x = item * -0x61C8864680B583EB + int.from_bytes(word, "big", signed=True)
    x = (x ^ shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return shifted(x ^ shifted(x, 31), 40).float() * 2.0**-24


def shifted(x: Tensor, bits: int) -> Tensor:
    """int64 shifted right as if it had no sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def crop_flip(image: Tensor, seed: int, epoch: int, item: Tensor) -> Tensor:
    """Pads uint8 images (B, 3, H, W) by an eighth in black, crops them back, flips half of them."""
    B, C, H, W = image.shape
    pad = H // 8, W // 8
    ways = (2 * pad[0] + 1) * (2 * pad[1] + 1) * 2
    way = (hashed(seed, epoch, item, draw=0) * ways).long()
    flip, way = way % 2 == 1, way // 2
    y = (way // (2 * pad[1] + 1))[:, None] + torch.arange(H, device=image.device)
    x = (way % (2 * pad[1] + 1))[:, None] + torch.arange(W, device=image.device)
    x = torch.where(flip[:, None], x.flip(1), x)
    padded = F.pad(image, (pad[1], pad[1], pad[0], pad[0]))
    PH = H + 2 * pad[0]
    top = torch.arange(0, B * C * PH, PH, device=image.device).view(B, C, 1)
    rows = padded.flatten(0, 2).index_select(0, (top + y[:, None]).flatten()).view(B, C * H, -1)
    return rows.gather(2, x[:, None].expand(-1, C * H, -1)).view(B, C, H, W)


def strong(image: Tensor, seed: int, epoch: int, item: Tensor) -> Tensor:
    """A second, stronger view of uint8 images (B, 3, H, W): Cubuk et al. 2020, arXiv:1909.13719.

    torchvision's RandAugment with its defaults, image by image; its draws from torch's generator
    begin at a hash of (seed, epoch, item).
    """
    seeds = (hashed(seed, epoch, item, draw=STRONG) * 2**24).long().tolist()
    views = []
    with torch.random.fork_rng(devices=[]):
        for one, own in zip(image, seeds, strict=True):
            torch.manual_seed(own)
            views.append(RAND_AUGMENT(one))
    return torch.stack(views)


def resized_crops(
    images: list[Tensor], size: tuple[int, int], seed: int, epoch: int, item: Tensor
) -> Tensor:
    """Cuts a random box out of each uint8 image (3, h, w), resizes it, and flips half of them.

    A box is .08 to 1 of the image's area and 3/4 to 4/3 as wide as high: Szegedy et al. 2015,
    arXiv:1409.4842, section 6.
    """
    draws = [hashed(seed, epoch, item, draw) for draw in range(4 * ATTEMPTS + 1)]
    crops = []
    for image, (flip, *numbers) in zip(images, torch.stack(draws, dim=1).tolist(), strict=True):
        top, left, h, w = box(image.shape[1], image.shape[2], numbers)
        crop = TF.resized_crop(image, top, left, h, w, list(size), antialias=True)
        crops.append(crop.flip(2) if flip < 0.5 else crop)
    return torch.stack(crops)


def box(H: int, W: int, numbers: list[float]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the first box within the image, or the largest central one."""
    for area, ratio, y, x in zip(*[iter(numbers)] * 4, strict=True):
        pixels = (0.08 + 0.92 * area) * H * W
        root = (3 / 4) ** (0.5 - ratio)  # of width / height, whose logarithm is uniform
        h, w = round(math.sqrt(pixels) / root), round(math.sqrt(pixels) * root)
        if 0 < h <= H and 0 < w <= W:
            return int(y * (H - h + 1)), int(x * (W - w + 1)), h, w
    h, w = min(H, round(W * 4 / 3)), min(W, round(H * 4 / 3))
    return (H - h) // 2, (W - w) // 2, h, w


class Stream(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Batches by (items, epoch): images (B, 3, H, W) uint8 and targets (B,), read one by one.

    Epoch -1 is evaluation.  With ``whole``, images are cut by ``resized_crops``, and evaluated on
    the middle 7/8 of them; without, they are only brought to the dataset's size.
    """

    def __init__(self, dataset: Dataset, whole: bool, seed: int) -> None:
        self.dataset, self.whole, self.seed = dataset, whole, seed

    def __getitem__(self, pick: tuple[list[int], int]) -> tuple[Tensor, Tensor]:
        items, epoch = pick
        images, targets = zip(*(self.dataset[i] for i in items), strict=True)
        size = self.dataset.size
        if self.whole and epoch >= 0:
            stack = resized_crops(list(images), size, self.seed, epoch, torch.tensor(items))
        else:
            shorter = 1 / 0.875 if self.whole else 1.0
            stack = torch.stack([fit(image, size, shorter) for image in images])
        return stack, torch.tensor(targets)
