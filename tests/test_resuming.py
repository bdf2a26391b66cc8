"""What a run's folder is held against before it goes on or is measured; nothing is trained."""

import json
from pathlib import Path

import pytest

from kdframe import build, checkpoint, run
from kdframe.config import Config, ConfigError, load
from kdframe.resuming import refuse_other_config, refuse_other_student

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


def test_epochs_may_grow_in_a_file_that_the_baseline_shares(folder) -> None:
    alone = "".join(line + "\n" for line in TEXT.splitlines() if "TEACHER" not in line)
    Path("s.yaml").write_text(alone.replace(", kd: {}", ""))
    teacher = next(line for line in TEXT.splitlines() if "TEACHER" in line)
    Path("d.yaml").write_text(f"_BASE_: s.yaml\n{teacher}\nLOSS: {{kd: {{}}}}\nBASELINE: s.yaml\n")
    before = load("d.yaml")
    (folder / "config.yaml").write_text(before.dump())
    (folder / "run.json").write_text(json.dumps({"config": before.digest()}))
    Path("s.yaml").write_text(Path("s.yaml").read_text().replace("EPOCHS: 3", "EPOCHS: 4"))
    refuse_other_config(load("d.yaml"), folder)
    Path("w.pth").write_bytes(b"another teacher")
    with pytest.raises(ConfigError, match="a recipe or a file of weights"):
        refuse_other_config(load("d.yaml"), folder)


def test_a_run_that_died_between_its_two_files_goes_on(folder) -> None:
    more = made("SOLVER.EPOCHS=4")
    (folder / "run.json").write_text(json.dumps({"config": more.digest()}))
    refuse_other_config(more, folder)


def test_a_student_is_not_measured_as_what_it_is_not(folder) -> None:
    with pytest.raises(ConfigError, match=r"can't make it 1; --config-file .*config.yaml measures"):
        run.eval_only(made("STUDENT.STRIDE=1"), folder)
    assert not (folder / "eval.json").exists()


@pytest.mark.parametrize(
    "word", ["LOSS.kd.TEMPERATURE=2", "LOSS.kd=null", "TEACHER.WIDTH=8", "TEACHER.CACHE=fp32"]
)
def test_a_loss_and_a_teacher_make_no_other_student(folder, word) -> None:
    refuse_other_student(made(word), folder)


def test_where_a_term_makes_the_network_its_teacher_is_part_of_it(folder) -> None:
    """simkd deploys the teacher's classifier."""
    simkd = ("LOSS.kd=null", "LOSS.simkd={}")
    (folder / "config.yaml").write_text(made(*simkd).dump())
    refuse_other_student(made(*simkd, "LOSS.simkd.WEIGHT=2"), folder)
    with pytest.raises(ConfigError, match=r"TEACHER\.WIDTH: the run in"):
        refuse_other_student(made(*simkd, "TEACHER.WIDTH=8"), folder)


def test_eval_json_says_under_which_config_and_on_which_images(folder, caplog) -> None:
    caplog.set_level("INFO", logger="kdframe")
    config = made("DATASET.TEST=72", "TEACHER.WEIGHTS=random", "SOLVER.BATCH_SIZE=36")
    run.eval_only(config, folder)
    found = json.loads((folder / "eval.json").read_text())
    assert (found["config"], found["dataset"]["TEST"]) == (config.digest(), 72)
    assert "DATASET.TEST is 72 here" in caplog.text and "VAL is" not in caplog.text
