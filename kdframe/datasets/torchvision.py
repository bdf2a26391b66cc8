"""torchvision's other classification sets, by the name of their class."""

import difflib
from functools import cached_property
from typing import Any

import torchvision.datasets
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from kdframe.datasets.base import Dataset
from kdframe.datasets.images import IMAGENET_MEAN, IMAGENET_STD, BrokenImage, decoded, shape_of
from kdframe.registry import DATASETS

FLAG = {"train": {"train": True}, "test": {"train": False}}
TWO = {name: {"split": name} for name in ("train", "test")}
THREE = {name: {"split": name} for name in ("train", "val", "test")}

# class -> (number of classes, the arguments of each split); left out are sets without a test
# split, with several labels an image, or of something other than images
SETS: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
    "Country211": (211, {**THREE, "val": {"split": "valid"}}),
    "DTD": (47, THREE),
    "EMNIST": (47, {k: {"split": "balanced", **v} for k, v in FLAG.items()}),
    "FGVCAircraft": (100, THREE),
    "FashionMNIST": (10, FLAG),
    "Flowers102": (102, THREE),
    "Food101": (101, TWO),
    "GTSRB": (43, TWO),
    "Imagenette": (10, {"train": {"split": "train"}, "test": {"split": "val"}}),
    "KMNIST": (10, FLAG),
    "MNIST": (10, FLAG),
    "OxfordIIITPet": (37, {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "PCAM": (2, THREE),
    "QMNIST": (10, FLAG),
    "RenderedSST2": (2, THREE),
    "STL10": (10, TWO),
    "SVHN": (10, TWO),
    "StanfordCars": (196, TWO),
    "USPS": (10, FLAG),
}


@DATASETS.register("torchvision")
class Torchvision(Dataset):
    """One of torchvision's sets: ``which`` is its class, e.g. SVHN, MNIST, Flowers102.

    ``size`` is the side that networks see; 0 takes the images' own, and all must have it.

    Raises:
        ValueError: a set or a split that there isn't; files that are missing or broken.
    """

    def __init__(
        self,
        split: str,
        *,
        which: str = "SVHN",
        root: str = "datasets",
        download: bool = False,
        size: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        if which not in SETS:
            near = difflib.get_close_matches(which, SETS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"no set {which!r}: there are {', '.join(SETS)}.{hint}")
        if size < 0:
            raise ValueError(f"size takes a side in pixels, or 0 for the images' own, not {size}.")
        count, splits = SETS[which]
        self.splits = tuple(splits)
        if split not in splits:
            raise ValueError(f"{which} has no split {split!r}: it has {', '.join(splits)}.")
        kind = getattr(torchvision.datasets, which)
        try:
            self.source = kind(root, download=download, **splits[split])
        except (RuntimeError, OSError, ImportError) as error:  # some need scipy or h5py
            why = str(error).partition(" You can use download=True")[0]
            hint = "" if download else " DATASET.DOWNLOAD true fetches it."
            raise ValueError(f"the folder {root} has no whole {which}: {why}{hint}") from error
        names = getattr(self.source, "classes", range(count))
        self.which, self.classes = which, tuple(map(str, names))
        self.mean, self.std, self.own_size = mean, std, size == 0
        self.size = (size, size) if size else shape_of(self[0][0])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        try:
            picture, target = self.source[i]
        except OSError as error:
            raise BrokenImage(f"image {i} of {self.which} is broken: {error}") from error
        return TF.pil_to_tensor(picture.convert("RGB")), int(target)

    def tensors(self) -> tuple[Tensor, Tensor] | None:
        return self.in_memory

    @cached_property
    def in_memory(self) -> tuple[Tensor, Tensor] | None:
        """Decoded once, also for two loaders (training, and what is held out of it)."""
        return decoded(self)
