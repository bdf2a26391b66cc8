import pytest
from PIL import Image

from kdframe.registry import HOOKS


def test_a_picture_is_there_at_the_end(trainer, tmp_path) -> None:
    trainer.train([HOOKS["curves"](tmp_path)])
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"


def test_a_picture_is_there_every_period(trainer, tmp_path, killed) -> None:
    for killed_at, drawn in ((7, False), (8.5, True)):
        with pytest.raises(killed):
            trainer.resume_at(0).train([HOOKS["curves"](tmp_path, period=2)], killed_at)
        assert (tmp_path / "curves.png").exists() is drawn


def test_a_resumed_run_draws_the_epochs_before_it(trainer, tmp_path) -> None:
    picture = tmp_path / "curves.png"
    trainer.train([HOOKS["curves"](tmp_path)])
    whole = picture.read_bytes()
    trainer.resume_at(6).train([HOOKS["curves"](tmp_path)])
    assert picture.read_bytes() == whole
