"""scikit-learn's digits."""

import importlib
import sys

import pytest
import torch

from kdframe.datasets.digits import digits


def test_the_splits_are_a_fifth_and_the_rest_and_share_nothing() -> None:
    train, test = digits("train"), digits("test")
    assert len(train) + len(test) == 1797
    assert 0.18 < len(test) / 1797 < 0.22
    assert train.images.shape[1:] == (3, 32, 32)
    assert train.images.max() == 255
    assert torch.bincount(test.targets).min() > 20
    pixels = torch.cat([train.images, test.images]).flatten(1)
    assert len(pixels.unique(dim=0)) == len(pixels)


def test_the_normalisation_is_that_of_the_pixels() -> None:
    train = digits("train")
    pixels = train.images.double() / 255
    assert float(pixels.mean()) == pytest.approx(train.mean[0], abs=0.005)
    assert float(pixels.std()) == pytest.approx(train.std[0], abs=0.005)


def test_a_split_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no split 'val': it has train and test"):
        digits("val")


def test_without_scikit_learn_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.delitem(sys.modules, "kdframe.datasets.digits")
    with pytest.raises(ImportError, match=r"^digits needs .*: pip install 'kdframe\[digits\]'$"):
        importlib.import_module("kdframe.datasets.digits")
