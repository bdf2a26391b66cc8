"""Drawn letters and digits."""

import pytest
import torch

from kdframe.datasets.glyphs import glyphs
from kdframe.registry import DATASETS


def test_the_classes_are_balanced_and_named() -> None:
    data = glyphs("train", train=72, test=36)
    assert "".join(data.classes) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert torch.bincount(data.tensors()[1]).tolist() == [2] * 36
    assert data[37][1] == 1
    assert data[0][0].shape == (3, 32, 32)
    assert data[0][0].dtype == torch.uint8


def test_an_image_depends_on_seed_split_and_item_alone() -> None:
    one = glyphs("train", train=40).images
    assert torch.equal(glyphs("train", train=72).images[:40], one)
    assert not torch.equal(glyphs("train", train=40, seed=1).images[0], one[0])
    assert not torch.equal(glyphs("test", test=40).images[0], one[0])
    assert not torch.equal(one[0], one[36])  # the same class


def test_every_glyph_can_be_told_from_its_background() -> None:
    """Two colours alone, no noise to speak of: brightness differs by 80 of 255 in each image."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    for image in glyphs("test", train=36, test=36).images.float():
        brightness = (image * weights[:, None, None]).sum(0)
        middle, border = brightness[4:28, 4:28].flatten(), brightness[0]
        contrast = (middle - border.median()).abs()
        assert contrast.topk(12).values.min() > 60  # a stroke of 12 pixels, blurred and noisy


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no split 'val': it has train and test"):
        glyphs("val")
    with pytest.raises(ValueError, match=r"36 to 100,000,000 images .* train 35"):
        glyphs("train", train=35)
    with pytest.raises(ValueError, match=r"seed -1"):
        glyphs("train", seed=-1)


def test_the_registry_knows_every_option() -> None:
    assert DATASETS.options("glyphs") == {"train": 1200, "test": 3600, "seed": 0}
