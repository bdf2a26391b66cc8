"""Images in class folders: ROOT/train/<class>/..., and the same in val/, test/ or both."""

import errno
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdframe.datasets.base import Dataset
from kdframe.datasets.images import IMAGENET_MEAN, IMAGENET_STD, BrokenImage, decoded, shape_of
from kdframe.registry import DATASETS

SPENT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # not the image's fault
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@DATASETS.register("image_folder")
class ImageFolder(Dataset):
    """Images in class folders: ImageNet, Tiny-ImageNet, one's own.

    ``size`` is the side that networks see; 0 takes the images' own, and all must have it.
    ``stream`` reads the files anew in every epoch, even where the decoded images fit in memory.
    With train/ and val/ alone, val/ is the test split.

    A class's images may lie in folders below it.  What is hidden (a name that begins with a dot)
    and files with other endings are left out.  Grey images get three equal channels, palettes and
    CMYK become RGB, transparency is dropped (what lies under it shows), of an animation the first
    picture counts, and a camera's note on how it was held (EXIF) is not followed: as torchvision
    and timm read images, so that published weights see what they were trained on.

    Raises:
        ValueError: a folder, a split or a class that is missing, empty or unknown, with its path.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str = "",
        size: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        stream: bool = False,
    ) -> None:
        if size < 0:
            raise ValueError(f"size takes a side in pixels, or 0 for the images' own, not {size}.")
        folders = split_folders(root)
        self.splits = tuple(folders)
        if split not in folders:
            raise ValueError(f"{root} has no split {split!r}: it has {', '.join(self.splits)}.")
        self.classes = class_names(folders["train"])
        folder = folders[split]
        for wrong, what in (
            (set(self.classes) - set(class_names(folder)), "lacks the class"),
            (set(class_names(folder)) - set(self.classes), "has the unknown class"),
        ):
            if wrong:
                raise ValueError(f"{folder} {what} {min(wrong)!r}; classes are those of train.")
        self.files = [
            (path, k) for k, name in enumerate(self.classes) for path in images_of(folder / name)
        ]
        self.mean, self.std, self.own_size, self.stream = mean, std, size == 0, stream
        self.size = (size, size) if size else shape_of(read(self.files[0][0]))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """An image as it is in its file.

        Raises:
            BrokenImage: with the path.
        """
        path, target = self.files[i]
        image = read(path)
        if self.own_size and shape_of(image) != self.size:
            raise BrokenImage(
                f"{path} is {shape_of(image)} and {self.files[0][0]} is {self.size} (height, "
                "width): set SIZE, the side to bring all images to."
            )
        return image, target

    def labels(self) -> Tensor:
        return torch.tensor([target for _, target in self.files])

    def identity(self) -> str:
        """Every file's name, size and time of its last change."""
        stats = [(path.rsplit("/", 2)[1:], Path(path).stat()) for path, _ in self.files]
        return "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)

    def tensors(self) -> tuple[Tensor, Tensor] | None:
        return None if self.stream else self.in_memory

    @cached_property
    def in_memory(self) -> tuple[Tensor, Tensor] | None:
        """Decoded once, also for two loaders (training, and what is held out of it)."""
        return decoded(self)


def split_folders(root: str) -> dict[str, Path]:
    """The folder of each split."""
    if not root:
        raise ValueError("image_folder needs ROOT, a folder with train/ and val/ or test/ in it.")
    there = {name: Path(root, name) for name in ("train", "val", "test")}
    there = {name: path for name, path in there.items() if path.is_dir()}
    if not Path(root).is_dir():
        raise ValueError(f"there is no folder {root}.")
    if "train" not in there or len(there) == 1:
        raise ValueError(f"{root} needs train/ and val/ or test/; it has {list(there) or 'none'}.")
    if "test" not in there:
        there["test"] = there.pop("val")
    return there


def class_names(folder: Path) -> list[str]:
    """The class folders' names, sorted; hidden ones aren't classes."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    if not names:
        raise ValueError(f"{folder} has no class folders.")
    return names


def images_of(folder: Path) -> list[str]:
    """A class's files, in a fixed order."""
    found = []
    for place in folders_in(folder):
        with os.scandir(place) as entries:
            for entry in entries:
                ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a million times
                if ending not in ENDINGS or entry.name[0] == "." or entry.is_dir():
                    continue
                if not entry.is_file():  # reading a pipe would wait for ever
                    raise ValueError(f"{entry.path} is no file, or a link that leads nowhere.")
                found.append(f"{place}/{entry.name}")
    if not found:
        raise ValueError(f"{folder} has no image ({' '.join(ENDINGS)}).")
    return sorted(found)


def folders_in(folder: Path) -> Iterator[str]:
    """A class's folder and those below it, each once, however links lead to it; no hidden ones.

    A link up to the split would make the other classes' images this one's: it isn't followed.
    """
    above = (place.stat() for place in (folder.parent, folder.parent.parent))
    seen = {(stat.st_dev, stat.st_ino) for stat in above}
    for place, below, _ in os.walk(folder, followlinks=True, onerror=unreadable):
        stat = Path(place).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            below.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        below[:] = sorted(name for name in below if name[0] != ".")
        yield place


def unreadable(error: OSError) -> None:
    """A folder that may not be looked into hides images, and is no empty one."""
    raise ValueError(f"{error.filename} can't be read: {error.strerror}.") from error


def read(path: str) -> Tensor:
    """The image in a file: uint8 (3, H, W).

    Pillow decodes.  torchvision's own decoder gives a JPEG's same bytes in two thirds of the time,
    and is deprecated since 0.29; its successor, torchcodec, needs torch 2.11 and isn't among what
    kdframe installs.  A JPEG's reduced decoding (``draft``) is cheaper and gives other pixels.
    """
    try:
        with Image.open(path) as image:
            mode, picture = image.mode, image.convert(layers_of(image)).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything for a file that is broken
        if isinstance(error, OSError) and error.errno in SPENT:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise BrokenImage(f"{path} can't be read: {error.strerror}.") from error
        raise BrokenImage(f"{path} is no whole image ({error}).") from error
    if mode[0] in "IF":  # RGB would cut them off at 255
        raise BrokenImage(f"{path} has more than 8 bits a channel.")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def layers_of(image: Image.Image) -> str:
    """The mode to decode to first: Pillow warns of a palette with transparency taken to RGB."""
    return "RGBA" if image.mode == "P" and "transparency" in image.info else image.mode
