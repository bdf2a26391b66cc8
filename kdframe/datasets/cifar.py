"""CIFAR-10 and CIFAR-100: Krizhevsky 2009, from the original archives, checked by md5."""

from pathlib import Path
from typing import Any

import torch
import torchvision.datasets
from torchvision.datasets.utils import check_integrity

from kdframe.datasets.base import Dataset, InMemory
from kdframe.registry import DATASETS


@DATASETS.register("cifar10")
def cifar10(
    split: str, *, root: str = "datasets", download: bool = False, url: str = ""
) -> Dataset:
    """50,000 and 10,000 images, 32x32, of 10 classes.

    An archive placed in ``root`` by hand is extracted; ``download`` fetches it, from ``url`` where
    that names a mirror.  Either way its md5 decides.

    Raises:
        ValueError: no such split; the files are neither there nor to be had, and how to get them.
    """
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return cifar(torchvision.datasets.CIFAR10, split, root, download, url, mean, std)


@DATASETS.register("cifar100")
def cifar100(
    split: str, *, root: str = "datasets", download: bool = False, url: str = ""
) -> Dataset:
    """50,000 and 10,000 images, 32x32, of 100 classes; options and errors as cifar10's."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return cifar(torchvision.datasets.CIFAR100, split, root, download, url, mean, std)


def cifar(
    kind: Any,
    split: str,
    root: str,
    download: bool,
    url: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Dataset:
    """A split of ``kind``, one of torchvision's two classes."""
    if split not in ("train", "test"):
        raise ValueError(f"{kind.__name__} has no split {split!r}: it has train and test.")
    train = split == "train"
    try:
        data = kind(root, train=train)
    except RuntimeError:  # files are missing, or have another md5
        data = fetch(kind, train, root, download, url)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return InMemory(images, torch.tensor(data.targets), data.classes, mean, std)


def fetch(kind: Any, train: bool, root: str, download: bool, url: str) -> Any:
    """``kind`` from its archive, which lies in ``root`` or is downloaded."""
    archive, source = Path(root, kind.filename), url or kind.url
    if not (download or check_integrity(archive, kind.tgz_md5)):
        broken = f" ({archive} is there, but broken or another file)" if archive.exists() else ""
        raise ValueError(
            f"{root} has no whole {kind.__name__}{broken}: say DOWNLOAD true, with a mirror's "
            f"address as URL if you like, or place {kind.filename} (md5 {kind.tgz_md5}) in {root}."
        )
    try:
        return type(kind.__name__, (kind,), {"url": source})(root, train=train, download=True)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{source} gave no file of md5 {kind.tgz_md5}: {error}") from error
