"""Batches are pure functions of (seed, epoch, item), wherever and by whomever they are made."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from kdframe.datasets import Batch, Dataset, InMemory
from kdframe.datasets.image_folder import ImageFolder
from kdframe.datasets.images import BrokenImage
from kdframe.loading import Loader, hold_out, order

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 0.25)


class Streamed(Dataset):
    """The same set without ``tensors()``; item ``broken`` can't be read."""

    def __init__(self, inner: InMemory, broken: int = -1) -> None:
        self.inner, self.broken = inner, broken
        self.classes, self.size = inner.classes, inner.size
        self.mean, self.std = inner.mean, inner.std

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        if i == self.broken:
            raise ValueError(f"image {i} is broken")
        return self.inner[i]


@pytest.fixture
def data() -> InMemory:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return InMemory(images, torch.arange(40) % 5, "abcde", MEAN, STD)


def loader(data: Dataset, **options) -> Loader:
    items = options.pop("items", torch.arange(3, 37))
    return Loader(data, items, device=CPU, **{"seed": 1, "augment": "crop_flip", **options})


def same(one: list[Batch], other: list[Batch]) -> bool:
    assert len(one) == len(other) > 0
    return all(
        torch.equal(a.image, b.image)
        and torch.equal(a.target, b.target)
        and torch.equal(a.item, b.item)
        and a.epoch == b.epoch
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("augment", ["none", "crop_flip", "resized_crop"])
@pytest.mark.parametrize("workers", [0, 2])
def test_resident_and_streamed_images_are_the_same_bits(data, augment, workers) -> None:
    resident = loader(data, augment=augment)
    streamed = loader(Streamed(data), augment=augment, workers=workers)
    for make in (lambda x: x.train(2, 8), lambda x: x.all(8)):
        assert same(list(make(resident)), list(make(streamed)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("augment", ["none", "crop_flip", "resized_crop"])
def test_a_later_start_gives_the_rest_of_the_epoch(data, augment) -> None:
    part = loader(data, augment=augment)
    assert same(list(part.train(3, 8))[2:], list(part.train(3, 8, first=2)))


@pytest.mark.parametrize("kind", [lambda d: d, Streamed])
@pytest.mark.parametrize("augment", ["crop_flip", "resized_crop"])
def test_two_processes_see_the_images_of_one(data, kind, augment) -> None:
    part = loader(kind(data), augment=augment)
    halves = zip(part.train(0, 8, rank=0, world=2), part.train(0, 8, rank=1, world=2), strict=True)
    together = [
        Batch(*(torch.cat(pair) for pair in zip(a[:3], b[:3], strict=True)), a.epoch)
        for a, b in halves
    ]
    assert same(list(part.train(0, 8)), together)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_image_once_and_unchanged(data, world) -> None:
    batches = [b for r in range(world) for b in loader(data).all(8, rank=r, world=world)]
    items = torch.cat([b.item for b in batches])
    assert items.sort().values.tolist() == list(range(3, 37))
    assert world > 1 or items.tolist() == list(range(3, 37))
    for batch in batches:
        expected = (data.images[batch.item].float() / 255 - column(MEAN)) / column(STD)
        torch.testing.assert_close(batch.image, expected, rtol=0, atol=0)
        assert torch.equal(batch.target, data.targets[batch.item])


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def test_an_epoch_is_shuffled_and_counted_and_drops_its_remainder(data) -> None:
    part = loader(data, augment="none")
    assert part.steps(8) == 4  # of 34 images
    epochs = [list(part.train(e, 8)) for e in (0, 1)]
    assert [b.epoch for b in epochs[1]] == [1.0, 1.25, 1.5, 1.75]
    one, two = (torch.cat([b.item for b in epoch]).tolist() for epoch in epochs)
    assert len(set(one)) == len(set(two)) == 32
    assert one != two
    assert one != sorted(one)
    assert set(one) <= set(range(3, 37))
    other_seed = torch.cat([b.item for b in loader(data, seed=2).train(0, 8)]).tolist()
    assert one != other_seed


@pytest.mark.parametrize("augment", ["crop_flip", "resized_crop"])
def test_every_epoch_and_seed_cuts_an_image_anew(data, augment) -> None:
    def images(seed: int, epoch: int) -> Tensor:
        batch = next(loader(data, augment=augment, seed=seed).train(epoch, 34))
        return batch.image[batch.item.argsort()]

    assert torch.equal(images(0, 0), images(0, 0))
    for other in (images(0, 1), images(1, 0)):
        changed = (images(0, 0) != other).flatten(1).any(1).sum()
        assert changed > 28  # of 34; a crop and its flip fall on the same one of 50 ways at times


def test_a_batch_that_cannot_be_is_refused(data) -> None:
    with pytest.raises(ValueError, match="a batch of 35 takes more than the 34 images"):
        loader(data).steps(35)
    with pytest.raises(ValueError, match="a batch of 8 can't be cut into 3 equal parts"):
        next(loader(data).train(0, 8, world=3))
    with pytest.raises(ValueError, match=r"none, crop_flip, resized_crop, not 'flip'"):
        loader(data, augment="flip")


def test_two_loaders_of_a_split_share_its_tensor(data) -> None:
    one, two = (loader(data, items=items) for items in hold_out(40, 0.2))
    assert one.resident[0].data_ptr() == two.resident[0].data_ptr() == data.images.data_ptr()


@pytest.mark.parametrize("kind", [lambda data: data, Streamed], ids=["resident", "streamed"])
def test_the_first_batch_is_that_of_the_first_epoch(data, kind) -> None:
    one = loader(kind(data), workers=2)
    rest = list(one.train(0, 8))
    assert same([one.first(8)], rest[:1])
    halves = [one.first(8, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat([half.image for half in halves]), rest[0].image)
    assert same(list(one.train(0, 8, 1, stop=3)), rest[1:3])


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_is_the_one_asked_for(data, channels_last) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for kind in (data, Streamed(data)):
        batch = next(loader(kind, channels_last=channels_last).train(0, 8))
        assert batch.image.is_contiguous(memory_format=layout)
        assert batch.image.dtype == torch.float32


def test_images_of_any_size_are_brought_to_the_datasets(data) -> None:
    streamed = Streamed(data)
    streamed.size = (8, 8)
    for augment in ("none", "crop_flip", "resized_crop"):
        part = loader(streamed, augment=augment)
        assert next(part.train(0, 8)).image.shape == (8, 3, 8, 8)
        assert next(part.all(8)).image.shape == (8, 3, 8, 8)


def test_it_says_where_the_images_are(data) -> None:
    size = 34 * 3 * 16 * 16 / 1e6
    assert loader(data).describe() == f"34 images resident on cpu ({size:.1f} MB)"
    assert loader(Streamed(data), workers=8).describe() == "34 images streamed by 8 workers"
    assert loader(Streamed(data)).describe() == "34 images streamed by this process"
    whole = loader(data, augment="resized_crop", workers=1)
    assert whole.describe() == "34 images streamed by 1 worker: resized_crop cuts from whole images"


def test_it_says_what_rule_keeps_a_set_in_memory_or_out_of_it(data) -> None:
    data.room = 4_000_000_000
    assert loader(data).describe().endswith("(0.0 MB of at most 4,000)")
    streamed = Streamed(data)
    streamed.size, streamed.room = (2240, 2240), 400_000_000  # 602 MB of 40 images
    says = "34 images streamed by 2 workers: 602 MB would not fit in 400 MB"
    assert loader(streamed, workers=2).describe() == says


def test_an_accelerator_without_room_leaves_the_images_in_memory(data, monkeypatch) -> None:
    size = 34 * 3 * 16 * 16
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size, 9 * size))
    part = loader(data)
    assert not part.fits(data.images)  # a CPU holds them already
    part.device = torch.device("cuda")
    assert part.fits(data.images)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size - 1, 9 * size))
    assert not part.fits(data.images)


@pytest.mark.skipif(sys.platform != "linux", reason="a fork is safe on Linux")
def test_workers_are_forked_whatever_python_does_by_default(data, monkeypatch) -> None:
    """From 3.14 on it would start each of them anew, and import torch in it in every pass."""
    seen = []
    real = DataLoader.__init__

    def noted(self, *given, **options):
        seen.append(options["multiprocessing_context"])
        real(self, *given, **options)

    monkeypatch.setattr(DataLoader, "__init__", noted)
    for workers in (0, 1):
        list(loader(Streamed(data), workers=workers).train(0, 8))
    assert seen == [None, "fork"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_a_value_error_that_ends_the_workers(data, workers) -> None:
    with pytest.raises(ValueError, match="image 11 is broken"):
        list(loader(Streamed(data, broken=11), workers=workers).all(4))
    assert not multiprocessing.active_children()


def test_a_workers_broken_image_is_one_sentence_with_its_path(tmp_path) -> None:
    for split in ("train", "test"):
        for name in ("0.png", "1.png"):
            (tmp_path / split / "cat").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / "cat" / name)
    data = ImageFolder("train", root=str(tmp_path), stream=True)
    broken = tmp_path / "train" / "cat" / "1.png"
    broken.write_bytes(b"")
    with pytest.raises(BrokenImage, match=f"^{broken} is no whole image") as caught:
        list(loader(data, items=torch.arange(2), workers=1).all(1))
    assert "\n" not in str(caught.value)


def test_workers_outlive_signals_and_end_with_their_pass(data) -> None:
    batches = loader(Streamed(data), workers=2).all(2)
    first = [next(batches), next(batches)]  # one of each worker: both are up
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    items = torch.cat([b.item for b in (*first, *batches)])
    assert items.tolist() == list(range(3, 37))
    left = loader(Streamed(data), workers=2).all(2)
    next(left)
    assert len(multiprocessing.active_children()) == 2
    left.close()
    assert not multiprocessing.active_children()


def test_a_pass_that_is_left_open_does_not_hold_up_the_end_of_the_program() -> None:
    code = """
import torch
from kdframe.datasets import InMemory
from kdframe.datasets.image_folder import ImageFolder
from kdframe.datasets.images import BrokenImage
from kdframe.loading import Loader
data = InMemory(torch.zeros(72, 3, 8, 8).byte(), torch.zeros(72), "a", (0,) * 3, (1,) * 3)
data.tensors = lambda: None
batches = Loader(data, torch.arange(72), device=torch.device("cpu"), workers=2).all(4)
next(batches)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_reading_leaves_the_global_generator_alone(data) -> None:
    before = torch.get_rng_state()
    list(loader(Streamed(data), workers=2).train(0, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_order_is_a_permutation_and_a_function_of_seed_and_epoch() -> None:
    assert order(1000, 1, 2).sort().values.tolist() == list(range(1000))
    assert torch.equal(order(1000, 1, 2), order(1000, 1, 2))
    for other in (order(1000, 2, 1), order(1000, 1, 3)):
        assert (order(1000, 1, 2) == other).sum() < 10  # 1 is expected


def test_what_is_held_out_is_a_fraction_or_a_number() -> None:
    for val, held in ((0.1, 4), (0.11, 4), (0.12, 5), (1, 1), (1.0, 1), (39, 39), (0, 0)):
        train, out = hold_out(40, val)
        assert len(out) == held
        assert torch.cat([train, out]).sort().values.tolist() == list(range(40))
    assert set(hold_out(40, 4)[1].tolist()) <= set(hold_out(40, 8)[1].tolist())
    assert hold_out(40, 10)[1].tolist() != list(range(10))


@pytest.mark.parametrize("val", [-0.1, 40, 41, 0.99, 0.01, 1.5])
def test_a_side_without_images_is_refused(val) -> None:
    with pytest.raises(ValueError, match=f"VAL {val:g} of 40 images"):
        hold_out(40, val)


@pytest.mark.parametrize("kind", [lambda d: d, Streamed])
def test_a_second_view_is_stronger_and_a_function_of_seed_epoch_and_item(data, kind) -> None:
    part = loader(kind(data))
    before = torch.get_rng_state()
    plain, viewed, halves = (
        list(part.train(1, 8, **more))
        for more in ({}, {"views": True}, {"views": True, "rank": 1, "world": 2})
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(batch.view is None for batch in plain)
    assert same(plain, [batch._replace(view=None) for batch in viewed])
    again = list(loader(data).train(1, 8, first=2, views=True))
    assert all(torch.equal(a.view, b.view) for a, b in zip(viewed[2:], again, strict=True))
    assert all(torch.equal(a.view[4:], b.view) for a, b in zip(viewed, halves, strict=True))
    other = next(loader(data, seed=9).train(1, 34, views=True))
    ours = next(part.train(1, 34, views=True))
    in_order = [b.view[b.item.argsort()] for b in (ours, other)]
    assert (in_order[0] != in_order[1]).flatten(1).any(1).sum() > 28
    assert (ours.view != ours.image).flatten(1).any(1).sum() > 24  # some policies leave an image


@pytest.mark.parametrize("kind", [lambda d: d, Streamed])
def test_labels_are_those_of_the_items_and_none_of_the_rest(data, kind) -> None:
    labels = loader(kind(data)).labels()
    assert labels[3:37].tolist() == data.targets[3:37].tolist()
    assert set(labels[:3].tolist()) == {-1} == set(labels[37:].tolist())


def test_parts_of_a_batch_keep_views_with_their_images() -> None:
    image, view = torch.arange(8.0).view(8, 1, 1, 1), -torch.arange(8.0).view(8, 1, 1, 1)
    whole = Batch(image, torch.arange(8), torch.arange(8), 0.5, view)
    parts = list(whole.parts(4))
    assert [len(part.target) for part in parts] == [2] * 4
    assert all(torch.equal(part.view, -part.image) and part.epoch == 0.5 for part in parts)
    assert all(part.view is None for part in whole._replace(view=None).parts(2))


def test_only_the_normalised_images_live_during_a_step() -> None:
    """No raw or cropped ones, uint8 (5, 3, 32, 32)."""
    images = torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8)
    dataset = InMemory(images, torch.arange(20) % 2, "ab", (0.5,) * 3, (0.2,) * 3)
    loader = Loader(dataset, torch.arange(20), device=torch.device("cpu"), augment="crop_flip")
    for batch in loader.train(0, 5):
        assert batch.image.shape == (5, 3, 32, 32)
        held = [o for o in gc.get_objects() if type(o) is torch.Tensor]
        assert not [t for t in held if t.dtype == torch.uint8 and len(t) == 5]
