"""What a run's folder is held against before it goes on or is measured; nothing is trained."""

import json
from pathlib import Path

import pytest

from kdframe import build, checkpoint, run
from kdframe.config import Config, ConfigError, load
from kdframe.resuming import refuse_other_config

TEXT = """
DATASET: {NAME: glyphs, TRAIN: 72, TEST: 36, VAL: 0}
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2, WEIGHTS: w.pth}
LOSS: {cross_entropy: {}, kd: {}}
SOLVER: {EPOCHS: 3, BATCH_SIZE: 12}
DEVICE: cpu
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder as a run leaves it: config, digest and an untrained student."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(TEXT)
    Path("w.pth").write_bytes(b"a teacher")
    config, folder = made(), tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(config.dump())
    (folder / "run.json").write_text(json.dumps({"config": config.digest()}))
    network = build.build_backbone(config, "STUDENT", 36, (3, 32, 32)).network
    checkpoint.save_weights(folder / "student.safetensors", network.state_dict(), {})
    return folder


def made(*words: str) -> Config:
    return load("c.yaml", words)


def test_a_run_goes_on_with_its_own_config_or_more_epochs(folder) -> None:
    refuse_other_config(made(), folder)
    refuse_other_config(made("SOLVER.EPOCHS=4"), folder)
    with pytest.raises(ConfigError, match=r"EPOCHS: the run in .* has 3, and --resume can't"):
        refuse_other_config(made("SOLVER.EPOCHS=2"), folder)


@pytest.mark.parametrize("words", [(), ("SOLVER.EPOCHS=4",)])
def test_a_teacher_that_changed_under_a_run_is_seen(folder, words) -> None:
    Path("w.pth").write_bytes(b"another teacher")
    with pytest.raises(ConfigError, match="a recipe or a file of weights isn't what the run in"):
        refuse_other_config(made(*words), folder)


def test_a_run_that_died_between_its_two_files_goes_on(folder) -> None:
    more = made("SOLVER.EPOCHS=4")
    (folder / "run.json").write_text(json.dumps({"config": more.digest()}))
    refuse_other_config(more, folder)


@pytest.mark.parametrize(
    "word", ["STUDENT.STRIDE=1", "LOSS.kd.TEMPERATURE=2", "LOSS.kd=null", "TEACHER.WIDTH=8"]
)
def test_a_student_is_not_measured_as_what_it_is_not(folder, word) -> None:
    with pytest.raises(ConfigError, match=r"command line: .* and --eval-only can't make it"):
        run.eval_only(made(word), folder)
    assert not (folder / "eval.json").exists()


def test_eval_json_says_under_which_config_and_on_which_images(folder, caplog) -> None:
    caplog.set_level("INFO", logger="kdframe")
    config = made("DATASET.TEST=72", "TEACHER.WEIGHTS=random", "SOLVER.BATCH_SIZE=36")
    run.eval_only(config, folder)
    found = json.loads((folder / "eval.json").read_text())
    assert (found["config"], found["dataset"]["TEST"]) == (config.digest(), 72)
    assert "DATASET.TEST is 72 here" in caplog.text and "VAL is" not in caplog.text
