"""torchvision's sets, through MNIST's files."""

import struct
from pathlib import Path

import pytest

from kdframe.datasets.torchvision import SETS, Torchvision
from kdframe.registry import DATASETS


@pytest.fixture
def root(tmp_path) -> Path:
    """MNIST of 4 and 2 images; the image of item i is full of i, its class is 9 - i."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 4), ("t10k", 2)):
        pixels = b"".join(bytes([i]) * 28 * 28 for i in range(count))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">iiii", 2051, count, 28, 28) + pixels
        )
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">ii", 2049, count) + bytes(9 - i for i in range(count))
        )
    return tmp_path


def test_grey_images_become_three_channels(root) -> None:
    data = Torchvision("train", which="MNIST", root=str(root))
    images, targets = data.tensors()
    assert images.shape == (4, 3, 28, 28)
    assert images[3].unique().tolist() == [3]
    assert targets.tolist() == [9, 8, 7, 6]
    assert len(data.classes) == 10
    assert len(Torchvision("test", which="MNIST", root=str(root))) == 2


def test_images_are_brought_to_a_size(root) -> None:
    data = Torchvision("test", which="MNIST", root=str(root), size=32)
    assert data.size == (32, 32)
    assert data.tensors()[0].shape == (2, 3, 32, 32)


def test_what_there_is_not_is_refused(root) -> None:
    with pytest.raises(ValueError, match=r"no set 'MNITS'.*Did you mean MNIST\?"):
        Torchvision("train", which="MNITS", root=str(root))
    with pytest.raises(ValueError, match="MNIST has no split 'val': it has train, test"):
        Torchvision("val", which="MNIST", root=str(root))
    with pytest.raises(
        ValueError, match=r"no whole FashionMNIST: Dataset not found. DATASET.DOWNLOAD true"
    ):
        Torchvision("train", which="FashionMNIST", root=str(root))


@pytest.mark.parametrize("which", SETS)
def test_every_set_says_that_its_files_are_missing(which, tmp_path) -> None:
    """A wrong class name or split argument would be another error."""
    for split in SETS[which][1]:
        with pytest.raises(ValueError, match=f"has no whole {which}"):
            Torchvision(split, which=which, root=str(tmp_path))


def test_it_is_found_by_name() -> None:
    assert DATASETS["torchvision"] is Torchvision
