"""CIFAR-10 and CIFAR-100: Krizhevsky 2009, from the original archives, checked by md5.

The archives are pickles.  What is unpickled are the very bytes whose md5 agrees, and by an
unpickler that knows arrays and nothing else.
"""

import codecs
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.datasets
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

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
    folder = Path(root, kind.base_folder)
    files = kind.train_list if split == "train" else kind.test_list
    about = kind.meta["filename"], kind.meta["md5"]
    if not all(check_integrity(folder / name, md5) for name, md5 in (about, *files)):
        fetch(kind, root, download, url)
    parts = [unpickled(folder / name, md5) for name, md5 in files]
    images = torch.from_numpy(np.concatenate([part["data"] for part in parts]))
    targets = [k for part in parts for k in part.get("labels", part.get("fine_labels"))]
    classes = unpickled(folder / about[0], about[1])[kind.meta["key"]]
    return InMemory(images.view(-1, 3, 32, 32), torch.tensor(targets), classes, mean, std)


def unpickled(path: Path, md5: str) -> Any:
    """What a file of an archive holds.

    Raises:
        ValueError: another md5; something other than arrays, lists and words.
    """
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} has another md5 than {md5}: it isn't read.")
    return Arrays(io.BytesIO(content), encoding="latin1").load()


class Arrays(pickle.Unpickler):
    """Looks up what numpy pickles an array by; anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        found = known.get((module.rpartition(".")[2], name))
        if found is None:
            raise ValueError(f"the archive holds {module}.{name}, which isn't data: it isn't read.")
        return found


def fetch(kind: Any, root: str, download: bool, url: str) -> None:
    """Extracts the archive of ``kind``, which lies in ``root`` or is downloaded."""
    archive, source = Path(root, kind.filename), url or kind.url
    if not (download or check_integrity(archive, kind.tgz_md5)):
        broken = f" ({archive} is there, but broken or another file)" if archive.exists() else ""
        raise ValueError(
            f"the folder {root} has no whole {kind.__name__}{broken}: say DATASET.DOWNLOAD true, "
            f"with a mirror's address as DATASET.URL if you like, or place {kind.filename} "
            f"(md5 {kind.tgz_md5}) there."
        )
    try:
        download_and_extract_archive(source, root, filename=kind.filename, md5=kind.tgz_md5)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{source} gave no file of md5 {kind.tgz_md5}: {error}") from error
