"""A sheet shows the very images that training sees."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdframe import build, exit_codes
from kdframe.commands import data as command
from kdframe.config import load
from kdframe.reports import sheet
from kdframe.samples import samples

ROOT = Path(__file__).parents[1]
CONFIG = """
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
DATASET: {NAME: glyphs, TRAIN: 144, TEST: 40, VAL: 36, AUGMENT: crop_flip}
LOSS: {cross_entropy: {}}
SOLVER: {EPOCHS: 3, BATCH_SIZE: 16}
"""
TAUGHT = "TEACHER={NAME: resnet8, WEIGHTS: random}"


@pytest.fixture
def file(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    return "c.yaml"


@pytest.fixture
def call(capsys, file):
    def call(*words: str) -> tuple[int, str, str]:
        given = ["--config-file", file, *words]
        code = exit_codes.answered(lambda: command.main(given))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def trained_on(file: str, epoch: int, *words: str) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """The first 20 images, second views and numbers of an epoch, by the trainer itself."""
    config = load(file, words)
    made = build.build_data(config, torch.device("cpu"))
    student, teachers = build.build_networks(config, made)
    trainer = build.build_trainer(config, made, student, teachers, Path())
    batches = list(trainer.batches(epoch))
    views = [batch.view for batch in batches if batch.view is not None]
    return (
        torch.cat([batch.image for batch in batches])[:20],
        torch.cat(views)[:20] if views else torch.empty(0),
        torch.cat([batch.item for batch in batches])[:20].tolist(),
    )


def as_seen(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - 0.5) / 0.25


@pytest.mark.parametrize("augment", ["none", "crop_flip", "resized_crop"])
def test_the_images_are_those_of_the_trainer(file, augment) -> None:
    words = ("SEED=3", f"DATASET.AUGMENT={augment}", "DATASET.WORKERS=0")
    found = samples(load(file, words), "train", (2,), 20)
    image, _, items = trained_on(file, 2, *words)
    assert found.items == items
    assert torch.equal(as_seen(found.views["epoch 2"]), image)
    original = build.build_dataset(load(file, words), "train")
    for item, pixels, label in zip(items, found.views["original"], found.labels, strict=True):
        assert torch.equal(pixels, original[item][0])
        assert label == original.classes[original[item][1]]


def test_a_term_that_needs_views_brings_a_column_of_the_very_second_views(file) -> None:
    words = ("LOSS.mlkd={}", TAUGHT)
    found = samples(load(file, words), "train", (1,), 20)
    assert list(found.views) == ["original", "epoch 1", "epoch 1, second view"]
    _, view, _ = trained_on(file, 1, *words)
    assert torch.equal(as_seen(found.views["epoch 1, second view"]), view)


def test_other_epochs_show_the_same_images_augmented_anew(file) -> None:
    found = samples(load(file), "train", (0, 1), 20)
    assert not torch.equal(found.views["epoch 0"], found.views["epoch 1"])
    none = samples(load(file, ["DATASET.AUGMENT=none"]), "train", (0, 1), 20)
    assert torch.equal(none.views["epoch 0"], none.views["epoch 1"])
    assert torch.equal(none.views["epoch 0"], none.views["original"])


def test_a_cached_teacher_s_views_come_again(file) -> None:
    words = (TAUGHT, "TEACHER.CACHE=fp32", "TEACHER.CACHE_EPOCHS=2")
    found = samples(load(file, words), "train", (0, 1, 2), 20)
    assert torch.equal(found.views["epoch 0"], found.views["epoch 2"])
    assert not torch.equal(found.views["epoch 0"], found.views["epoch 1"])


@pytest.mark.parametrize(("split", "total"), [("val", 36), ("test", 40)])
def test_validation_and_test_are_shown_as_they_are_from_all_over_the_split(
    file, split, total
) -> None:
    found = samples(load(file), split, (0,), 10)
    assert list(found.views) == ["original"] and found.total == total
    assert len(set(found.items)) == 10 and found.items == sorted(found.items)


def test_a_sheet_holds_the_pixels_of_every_column() -> None:
    """A red, a green and a blue image, each with a white view."""
    pure = (torch.eye(3) * 255).to(torch.uint8)[:, :, None, None].expand(3, 3, 8, 8)
    views = {"original": pure, "epoch 0": torch.full_like(pure, 255)}
    png = sheet.draw(views, ["red", "green", "a blue one with a long name"], [0, 1, 2], "t", "n")
    image = Image.open(io.BytesIO(png))
    colours = {c: n for n, c in image.convert("RGB").getcolors(1 << 24)}
    areas = [colours[(255, 0, 0)], colours[(0, 255, 0)], colours[(0, 0, 255)]]
    assert min(areas) > 0.8 * (sheet.INCH * 150) ** 2
    assert max(areas) - min(areas) < 0.05 * max(areas)


def test_the_command_writes_one_png_and_says_what_it_shows(call) -> None:
    code, out, err = call("--seed", "4", "--epoch", "0,2", "--count", "7", "--output", "a.png")
    assert code == 0, err
    assert "glyphs, train: 7 of 108 images" in out and "seed 4" in out and "a.png" in out
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "c.yaml"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--epoch=-1",), "--epoch takes epochs from 0 on"),
        (("--epoch", "0,x"), "--epoch takes epochs from 0 on"),
        (("--count", "0"), "--count takes a number from 1, not 0."),
        (("--count", "97"), "--count takes at most 96"),
        (("--split", "val", "DATASET.VAL", "0"), "there is no validation split"),
        (("--output", "a.jpg"), "--output takes a name that ends in .png"),
        (("--output", "no/a.png"), "there is no folder no"),
        (("DATASET.NAM", "x"), "there is no DATASET.NAM"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(call, words, why) -> None:
    code, _, err = call(*words)
    assert code == 2 and why in err and err.count("\n") == 1


def test_the_script_is_the_command(file) -> None:
    words = [str(ROOT / "tools/visualize_data.py"), "--config-file", file, "--count", "2"]
    done = subprocess.run([sys.executable, "-W", "error", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path("data.png").exists()
