"""Random crops and flips, and the numbers behind them."""

import hashlib
import math

import pytest
import torch
import torch.nn.functional as F

from kdframe.augmentation import box, crop_flip, hashed, resized_crops, shifted

MASK = 2**64 - 1


def test_the_hash_is_splitmix64() -> None:
    """Written out in whole numbers: state + (item + 1) x gamma is what the n-th call mixes."""

    def unsigned(x: int) -> int:
        return x & MASK

    def reference(state: int, item: int) -> float:
        z = unsigned(state + item * 0x9E3779B97F4A7C15)
        z = unsigned((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9)
        z = unsigned((z ^ (z >> 27)) * 0x94D049BB133111EB)
        return ((z ^ (z >> 31)) >> 40) / 2**24

    digest = hashlib.blake2b(b"7/3/2", digest_size=8).digest()
    state = int.from_bytes(digest, "big")
    items = torch.tensor([0, 1, 2, 10**12])
    assert hashed(7, 3, items, 2).tolist() == [reference(state, i) for i in items.tolist()]


def test_a_shift_takes_the_sign_for_a_bit() -> None:
    assert shifted(torch.tensor([-1, 8]), 2).tolist() == [2**62 - 1, 2]


def test_hashed_numbers_are_uniform_and_independent() -> None:
    """Bins of 10,000 each stay within 5 standard deviations; correlations within 5 of theirs."""
    count, bins = 1_000_000, 100
    items = torch.arange(count)
    columns = [hashed(*key) for key in ((0, 0, items, 0), (1, 0, items, 0), (0, 1, items, 0))]
    columns += [hashed(0, 0, items, 1), columns[0].roll(1)]
    for x in columns:
        assert x.min() >= 0
        assert x.max() < 1
        per_bin = torch.bincount((x * bins).long(), minlength=bins)
        assert (per_bin - count / bins).abs().max() < 5 * math.sqrt(count / bins)
    off_diagonal = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert off_diagonal.abs().max() < 5 / math.sqrt(count)


def test_a_cropped_image_is_a_window_of_the_padded_one_or_its_mirror() -> None:
    """All 3 x 5 x 2 ways of an 8x16 image are seen, about equally often."""
    image = torch.randint(1, 256, (3, 8, 16), dtype=torch.uint8)
    padded = F.pad(image, (2, 2, 1, 1))
    windows = {
        (y, x, flip): window.flip(2) if flip else window
        for y in range(3)
        for x in range(5)
        for flip in (False, True)
        for window in [padded[:, y : y + 8, x : x + 16]]
    }
    count = 3000
    crops = crop_flip(image.expand(count, -1, -1, -1), 0, 0, torch.arange(count))
    seen = [(crops == window).flatten(1).all(1).sum().item() for window in windows.values()]
    assert sum(seen) == count
    assert min(seen) > 50  # 100 are expected, give or take 10
    assert max(seen) < 150


def test_augmentation_depends_on_seed_epoch_and_item_alone() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    items, turn = torch.arange(100, 164), torch.randperm(64)
    resized = lambda x, *key: resized_crops(list(x), (16, 16), *key)  # noqa: E731
    for augment in (crop_flip, resized):
        crops = augment(images, 1, 2, items)
        assert torch.equal(augment(images[turn], 1, 2, items[turn]), crops[turn])
        for seed, epoch in ((2, 2), (1, 3)):
            assert not torch.equal(augment(images, seed, epoch, items), crops)


def test_a_box_is_the_area_and_ratio_that_its_numbers_say() -> None:
    """Area .08 + .92 x 1/2 = .54 of 100 x 100, square at ratio 1/2: a side of 73.48."""
    assert box(100, 100, [0.5, 0.5, 0.0, 0.0] * 10) == (0, 0, 73, 73)
    assert box(100, 100, [0.5, 0.5, 0.999, 0.5] * 10) == (27, 14, 73, 73)
    side = math.sqrt(0.08 * 100 * 100)  # 28.28, at 4/3: 24.49 high, 32.66 wide
    assert box(100, 100, [0.0, 1.0, 0.0, 0.0] * 10)[2:] == (
        round(side / math.sqrt(4 / 3)),
        round(side * math.sqrt(4 / 3)),
    )


def test_a_box_that_does_not_fit_is_drawn_again_and_at_last_central() -> None:
    wide = [0.99, 0.99, 0.0, 0.0]
    assert box(100, 100, [*wide, 0.5, 0.5, 0.0, 0.0] + wide * 8) == (0, 0, 73, 73)
    assert box(100, 400, [0.99, 0.5, 0.0, 0.0] * 10) == (0, (400 - 133) // 2, 100, 133)
    assert box(400, 100, [0.99, 0.5, 0.0, 0.0] * 10) == ((400 - 133) // 2, 0, 133, 100)


@pytest.mark.parametrize("shape", [(3, 50, 70), (3, 5, 300), (3, 1, 1)])
def test_any_image_is_cut_to_the_size(shape) -> None:
    images = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(8)]
    crops = resized_crops(images, (16, 24), 0, 0, torch.arange(8))
    assert crops.shape == (8, 3, 16, 24)
    assert crops.dtype == torch.uint8


def test_half_of_the_resized_crops_are_mirrored() -> None:
    """A ramp from dark to bright is one from bright to dark in about half of them."""
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(3, 64, 64)
    crops = resized_crops([ramp] * 400, (8, 8), 0, 0, torch.arange(400)).float()
    assert 150 < (crops[:, 0, :, 0] > crops[:, 0, :, -1]).all(1).sum() < 250
