import numpy as np
import pytest
from PIL import Image

from kdframe.reports.curves import draw

LOSSES = {"train/loss": 1.5, "train/cross_entropy": 2.0, "train/kd": 10.0}
BLUE = (31, 119, 180)  # matplotlib's first colour


def picture(history, path):
    draw(history, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def history(epochs: int, **more: float):
    rows = ({name: value / e for name, value in LOSSES.items()} for e in range(1, epochs + 1))
    return [{"epoch": e, **row, **more} for e, row in enumerate(rows, start=1)]


def test_accuracy_has_a_panel_of_its_own_where_there_is_a_validation_split(tmp_path) -> None:
    alone = picture(history(3), tmp_path / "alone.png")
    both = picture(history(3, **{"val/top1": 50.0}), tmp_path / "both.png")
    assert both.shape[1] == 2 * alone.shape[1]


@pytest.mark.parametrize("zero", [0.0, -1.0])
def test_a_loss_that_no_logarithm_takes_is_drawn(tmp_path, zero) -> None:
    rows = [{"epoch": e, "train/loss": zero, "train/kd": zero} for e in (1, 2, 3)]
    assert (picture(rows, tmp_path / "curves.png") == BLUE).all(axis=2).sum() > 100


def test_one_epoch_is_a_visible_point(tmp_path) -> None:
    """Its legend has the colour too, and so has more of it with a point than without."""
    at = [
        (picture([{"epoch": 1, "train/loss": 1.0, "train/kd": kd}], tmp_path / "p.png") == BLUE)
        for kd in (2.0, float("nan"))
    ]
    assert at[0].all(axis=2).sum() > at[1].all(axis=2).sum() + 10


def test_the_same_history_is_the_same_picture(tmp_path) -> None:
    rows = history(5, **{"val/top1": 50.0})
    assert (picture(rows, tmp_path / "a.png") == picture(rows, tmp_path / "b.png")).all()
