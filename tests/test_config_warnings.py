"""What a config sets in vain, or otherwise than it seems: warnings, a sentence each."""

from pathlib import Path

import pytest

from kdframe.config import load, read

STUDENT = """
STUDENT: {NAME: resnet18}
DATASET: {NAME: glyphs}
LOSS: {cross_entropy: {}}
"""
DISTILLED = """
_BASE_: student.yaml
TEACHER: {NAME: resnet34, WEIGHTS: random}
BASELINE: student.yaml
LOSS: {kd: {WEIGHT: .5, TEMPERATURE: 5}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    write(STUDENT, "configs/student.yaml")
    write(DISTILLED, "configs/x.yaml")


def write(text: str, path: str = "configs/y.yaml") -> None:
    Path(path).write_text(text)


def test_settings_without_effect_are_named() -> None:
    words = ["SOLVER.STEPS=[3]", "SOLVER.OPTIMIZER=adamw", "SOLVER.NESTEROV=true"]
    assert read("configs/x.yaml", words).warnings == (
        "command line: SOLVER.STEPS: it has no effect under SCHEDULE cosine.",
        "command line: SOLVER.NESTEROV: it has no effect on OPTIMIZER adamw.",
    )


def test_a_term_that_starts_after_the_end_has_no_effect() -> None:
    config = read("configs/x.yaml", ["SOLVER.EPOCHS=3", "LOSS.kd.START=3"])
    assert config.warnings == (
        "command line: LOSS.kd.START: the term has no effect: the run is over by then.",
    )
    assert read("configs/x.yaml", ["SOLVER.EPOCHS=3", "LOSS.kd.START=2.5"]).warnings == ()


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (
            ("SOLVER.SCHEDULE=steps", "SOLVER.STEPS=[39,40,50]"),
            "SOLVER.STEPS: [40, 50] has no effect: the run has 40 EPOCHS.",
        ),
        (
            ("LOSS.kd.START=30", "LOSS.kd.WARMUP=11"),
            "LOSS.kd.WARMUP: it ends after epoch 40: WEIGHT is never reached.",
        ),
        (
            ("LOSS.kd.STOP=10", "LOSS.kd.WARMUP=11"),
            "LOSS.kd.WARMUP: it ends after epoch 10: WEIGHT is never reached.",
        ),
    ],
)
def test_what_would_come_after_the_end_has_no_effect(words, warning) -> None:
    assert read("configs/x.yaml", words).warnings == (f"command line: {warning}",)
    assert read("configs/x.yaml", [*words, "SOLVER.EPOCHS=51", "LOSS.kd.STOP=0"]).warnings == ()


def test_more_teachers_than_the_terms_ask_have_no_effect() -> None:
    second = "TEACHER/2={NAME: resnet18, WEIGHTS: random}"
    assert load("configs/x.yaml", [second]).warnings == (
        "command line: TEACHER/2: it has no effect on the student: no term of LOSS takes several "
        "teachers.",
    )
    assert load("configs/x.yaml", [second, "LOSS.kd_ensemble/a={}"]).warnings == ()
    dropped = load("configs/x.yaml", [second, "LOSS.kd_ensemble=null"])
    assert "no term of LOSS takes several teachers." in dropped.warnings[-1]


def test_a_gain_that_has_other_epochs_in_it_is_a_warning() -> None:
    assert load("configs/x.yaml", ["SOLVER.EPOCHS=41", "SOLVER.COMPILE=true"]).warnings == (
        "configs/x.yaml: BASELINE: SOLVER.EPOCHS is 41 here and 40 there: the gain has that in it. "
        "(line 4)",
    )
    for epochs, count in ((41, 0), (39, 1)):  # a method's own file may have its reasons for more
        write(f"_BASE_: x.yaml\nSOLVER: {{LR: .1, EPOCHS: {epochs}}}")
        assert len(load("configs/y.yaml").warnings) == count


def test_two_that_learn_and_never_look_at_each_other_are_a_warning() -> None:
    write("_BASE_: student.yaml\nTEACHER: {NAME: resnet18, TRAIN: true}")
    (warning,) = load("configs/y.yaml").warnings
    assert "TEACHER.TRAIN: the two have no effect on each other: no term compares them." in warning
    assert not load("configs/y.yaml", ["LOSS.dml={}"]).warnings


def test_a_teacher_that_no_term_asks_is_a_warning() -> None:
    write("_BASE_: student.yaml\nTEACHER: {NAME: resnet18, WEIGHTS: random}")
    (warning,) = load("configs/y.yaml").warnings
    assert "TEACHER: it has no effect on the student: no term of LOSS asks it." in warning
    assert not load("configs/y.yaml", ["LOSS.kd={}"]).warnings


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["LOSS.dml={}"], "LOSS.dml: nothing is mutual: it is kd of TEMPERATURE 1"),
        (["LOSS.kd_ensemble={}"], "LOSS.kd_ensemble: it takes several teachers (TEACHER/2), and"),
        (
            ["LOSS.simkd={}"],
            "LOSS.cross_entropy: it trains a classifier that is thrown away: simkd deploys another",
        ),
    ],
)
def test_a_term_that_does_less_than_its_name_says_is_a_warning(words, warning) -> None:
    write("_BASE_: student.yaml\nTEACHER: {NAME: resnet18, WEIGHTS: random}\nLOSS: {kd: {}}")
    (found,) = load("configs/y.yaml", words).warnings
    assert warning in found
    assert not load("configs/y.yaml").warnings


def test_a_term_that_does_what_its_name_says_is_none() -> None:
    write("_BASE_: student.yaml\nTEACHER: {NAME: resnet18, WEIGHTS: random}")
    second = "TEACHER/2={NAME: resnet18, WEIGHTS: random}"
    for words in (
        ["LOSS.dml={}", "TEACHER.TRAIN=true"],
        ["LOSS.kd_ensemble={}", second],
        ["LOSS.cross_entropy=null", "LOSS.simkd={}"],
    ):
        assert not load("configs/y.yaml", words).warnings
