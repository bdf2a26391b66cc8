"""Images in class folders, and every way in which such a folder can be wrong."""

import errno
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdframe.datasets.image_folder import ImageFolder, read
from kdframe.datasets.images import BrokenImage, fit, room


def put(path: Path, value: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (value, value, value)).save(path)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    """Cats are dark and dogs are bright; the split is the last digit."""
    for k, split in enumerate(("train", "val")):
        for i in range(3):
            put(tmp_path / split / "cat" / f"{i}.png", 10 * i + k)
            put(tmp_path / split / "dog" / f"{i}.png", 100 + 10 * i + k)
    return tmp_path


def firsts(data: ImageFolder) -> list[tuple[int, int]]:
    return [
        (int(image[0, 0, 0]), target) for image, target in map(data.__getitem__, range(len(data)))
    ]


def test_val_alone_is_the_test_split(root) -> None:
    data = ImageFolder("test", root=str(root))
    assert data.splits == ("train", "test")
    assert firsts(data) == [(1, 0), (11, 0), (21, 0), (101, 1), (111, 1), (121, 1)]
    assert list(data.classes) == ["cat", "dog"]
    assert data.size == (8, 8)
    with pytest.raises(ValueError, match="no split 'val': it has train, test"):
        ImageFolder("val", root=str(root))


def test_three_folders_are_three_splits(root) -> None:
    put(root / "test" / "cat" / "0.png", 5)
    put(root / "test" / "dog" / "0.png", 105)
    assert firsts(ImageFolder("test", root=str(root))) == [(5, 0), (105, 1)]
    assert firsts(ImageFolder("val", root=str(root)))[0] == (1, 0)
    assert ImageFolder("train", root=str(root)).splits == ("train", "val", "test")


def test_tensors_are_what_single_images_are(root) -> None:
    data = ImageFolder("train", root=str(root))
    images, targets = data.tensors()
    assert torch.equal(images, torch.stack([data[i][0] for i in range(6)]))
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.tensors()[0] is images  # decoded once
    assert ImageFolder("train", root=str(root), stream=True).tensors() is None


def test_there_is_room_for_a_quarter_of_free_memory_and_for_4_gib(tmp_path, monkeypatch) -> None:
    for free, most in ((8 * 2**20, 2 * 2**30), (64 * 2**20, 4 * 2**30)):  # KiB, and bytes
        meminfo = tmp_path / "meminfo"
        meminfo.write_text(f"MemTotal: 999999999 kB\nMemFree: 1 kB\nMemAvailable: {free} kB\n")
        monkeypatch.setattr("kdframe.datasets.images.MEMINFO", meminfo)
        assert room() == most


def test_what_does_not_fit_in_memory_is_streamed(root, monkeypatch) -> None:
    monkeypatch.setattr("kdframe.datasets.images.MOST_BYTES", 6 * 3 * 8 * 8)
    assert ImageFolder("train", root=str(root)).tensors() is not None
    monkeypatch.setattr("kdframe.datasets.images.MOST_BYTES", 6 * 3 * 8 * 8 - 1)
    assert ImageFolder("train", root=str(root)).tensors() is None


def test_hidden_folders_and_other_files_are_left_out(root) -> None:
    put(root / "train" / ".cache" / "0.png")
    put(root / "train" / "cat" / ".0.png")
    (root / "train" / "cat" / "boxes.txt").write_text("0 0 8 8")
    (root / "train" / "cat" / "more").mkdir()
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "more" / "0.png")
    assert len(ImageFolder("train", root=str(root))) == 6


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: put(root / "val" / "cow" / "0.png"), r"val has the unknown class 'cow'"),
        (lambda root: put(root / "train" / "cow" / "0.png"), r"val lacks the class 'cow'"),
        (
            lambda root: (root / "val" / "cat").rename(root / "val" / ".cat"),
            r"lacks the class 'cat'",
        ),
        (
            lambda root: (root / "train").rename(root / "training"),
            r"needs train/ .* it has \['val'\]",
        ),
        (lambda root: (root / "val").rename(root / "other"), r"needs train/ .* it has \['train'\]"),
        (lambda root: [f.unlink() for f in (root / "val/cat").iterdir()], r"val/cat has no image"),
    ],
)
def test_a_wrong_folder_is_one_sentence_with_its_path(root, break_it, message) -> None:
    break_it(root)
    with pytest.raises(ValueError, match=message) as caught:
        ImageFolder("test", root=str(root))
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="needs ROOT"):
        ImageFolder("train")
    with pytest.raises(ValueError, match=f"no folder {tmp_path}/x"):
        ImageFolder("train", root=f"{tmp_path}/x")
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match="train has no class folders"):
        ImageFolder("train", root=str(tmp_path))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
@pytest.mark.parametrize("name", ["1.png", "1.jpg"])
def test_a_broken_image_is_named(root, name, keep) -> None:
    path = root / "train" / "cat" / name
    Image.effect_noise((8, 8), 50).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if keep == -1 else raw[:keep])
    data = ImageFolder("train", root=str(root))
    with pytest.raises(BrokenImage, match=f"{path} is no whole image"):
        data.tensors()


def test_images_of_several_sizes_need_one_to_be_brought_to(root) -> None:
    path = put(root / "train" / "dog" / "1.png", 110, size=(8, 16))
    with pytest.raises(ValueError, match=rf"{path} is \(8, 16\) and .*0.png is \(8, 8\).*set SIZE"):
        ImageFolder("train", root=str(root)).tensors()
    images, _ = ImageFolder("train", root=str(root), size=4).tensors()
    assert images.shape == (6, 3, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 100, 110, 120]
    with pytest.raises(ValueError, match="not -1"):
        ImageFolder("train", root=str(root), size=-1)


def test_grey_pictures_get_three_channels_and_16_bits_are_refused(root) -> None:
    path = root / "train" / "cat" / "0.png"
    Image.new("L", (8, 8), 7).save(path)
    assert ImageFolder("train", root=str(root))[0][0].unique().tolist() == [7]
    Image.fromarray(np.full((8, 8), 7000, dtype=np.uint16)).save(path)
    with pytest.raises(BrokenImage, match=f"{path} has more than 8 bits"):
        ImageFolder("train", root=str(root))


def test_fit_covers_the_size_and_keeps_the_middle() -> None:
    """(2, 8) doubled is (4, 16); its middle four columns are those of columns 3 and 4."""
    image = (torch.arange(8, dtype=torch.uint8) // 2 * 50).expand(3, 2, 8)
    assert fit(image, (2, 4))[0, 0].tolist() == [50, 50, 100, 100]
    flat = torch.full((3, 2, 8), 9, dtype=torch.uint8)
    assert torch.equal(fit(flat, (4, 4)), torch.full((3, 4, 4), 9, dtype=torch.uint8))
    assert torch.equal(fit(flat, (4, 4), shorter=1 / 0.875).unique(), torch.tensor([9]).byte())


def test_a_link_that_leads_in_a_circle_counts_no_image_twice(root) -> None:
    (root / "train" / "cat" / "again").symlink_to("..", target_is_directory=True)
    (root / "train" / "cat" / "self").symlink_to(".", target_is_directory=True)
    files = [path for path, _ in ImageFolder("train", root=str(root)).files]
    assert len(files) == len({Path(path).resolve() for path in files})


def test_what_is_hidden_below_a_class_is_left_out(root) -> None:
    put(root / "train" / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    put(root / "train" / "cat" / "more" / "9.PNG")
    assert len(ImageFolder("train", root=str(root))) == 7


def test_an_image_that_is_no_file_is_named(root) -> None:
    """Reading a pipe would wait for ever."""
    (root / "train" / "cat" / "x.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"cat/x\.png is no file, or a link that leads nowhere"):
        ImageFolder("train", root=str(root))
    (root / "train" / "cat" / "x.png").unlink()
    os.mkfifo(root / "train" / "cat" / "x.png")
    with pytest.raises(ValueError, match=r"cat/x\.png is no file"):
        ImageFolder("train", root=str(root))


def test_an_image_that_went_away_or_may_not_be_read_is_named(root) -> None:
    data = ImageFolder("train", root=str(root))
    Path(data.files[1][0]).unlink()
    with pytest.raises(BrokenImage, match=r"1\.png can't be read: No such file"):
        data[1]


def test_descriptors_that_run_out_are_no_broken_image(root, monkeypatch) -> None:
    def spent(path: str):
        raise OSError(errno.EMFILE, "Too many open files", path)

    data = ImageFolder("train", root=str(root))
    monkeypatch.setattr(Image, "open", spent)
    with pytest.raises(OSError, match="Too many open files"):
        data[0]


@pytest.mark.parametrize(
    ("make", "colour"),
    [
        (lambda: Image.new("L", (8, 8), 7), (7, 7, 7)),
        (lambda: Image.new("1", (8, 8), 1), (255, 255, 255)),
        (lambda: Image.new("RGBA", (8, 8), (9, 8, 7, 0)), (9, 8, 7)),
        (lambda: Image.new("LA", (8, 8), (5, 0)), (5, 5, 5)),
        (lambda: Image.new("RGB", (8, 8), (9, 8, 7)).convert("P", palette=1), (9, 8, 7)),
    ],
    ids=["grey", "bits", "alpha", "grey and alpha", "palette"],
)
def test_every_picture_becomes_red_green_and_blue(root, make, colour) -> None:
    """Transparency is dropped: what lies under it shows."""
    make().save(root / "train" / "cat" / "0.png")
    image, _ = ImageFolder("train", root=str(root))[0]
    assert tuple(image[:, 0, 0].tolist()) == colour


def test_a_transparent_palette_is_read_without_a_warning(root) -> None:
    picture = Image.new("RGB", (8, 8), (9, 8, 7)).convert("P", palette=1)
    picture.save(root / "train" / "cat" / "0.png", transparency=b"\x00\x80")
    image, _ = ImageFolder("train", root=str(root))[0]
    assert tuple(image[:, 0, 0].tolist()) == (9, 8, 7)


def test_cmyk_is_read_and_a_cameras_note_is_not_followed(root) -> None:
    """Orientation 6 says: turn it by a quarter; torchvision and timm don't either."""
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(root / "train" / "cat" / "a.jpg")
    turned = Image.new("RGB", (8, 8))
    turned.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(root / "train" / "cat" / "b.jpg", exif=exif, quality=100)
    data = ImageFolder("train", root=str(root))
    black, image = data[3][0], data[4][0]
    assert black.max() < 10
    assert image[0, 0, :].min() > 200 and image[0, 7, :].max() < 50


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_whatever_a_file_holds_it_is_an_image_or_named(root, ending) -> None:
    path = root / "train" / "cat" / f"x.{ending}"
    Image.effect_noise((9, 8), 60).convert("RGB").save(path)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(60):
        raw = bytearray(whole)
        for _ in range(draw.choice((1, 3, 20))):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        path.write_bytes(raw[: draw.choice((len(raw), draw.randrange(len(raw))))])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(str(path))
        except BrokenImage as error:
            assert str(path) in str(error)
