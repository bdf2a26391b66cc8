from pathlib import Path

import pytest
import yaml

from kdframe.config import Config, load

STUDENT = """
STUDENT: {NAME: resnet18}
DATASET: {NAME: glyphs}
LOSS: {cross_entropy: {}}
"""
DISTILLED = """
_BASE_: student.yaml
TEACHER: {CONFIG: teacher.yaml}
BASELINE: student.yaml
LOSS: {kd: {TEMPERATURE: 5}, kd/again: {}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("student.yaml").write_text(STUDENT)
    Path("teacher.yaml").write_text(STUDENT.replace("resnet18", "resnet34"))
    Path("x.yaml").write_text(DISTILLED)
    return tmp_path


def reloaded(config: Config) -> Config:
    Path("runs").mkdir(exist_ok=True)
    Path("runs/config.yaml").write_text(config.dump())
    return load("runs/config.yaml")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("LOSS.kd=null", "HOOKS.curves=null", "SOLVER.STEPS=[3, 5]", "SOLVER.SCHEDULE=steps"),
        ("DATASET.VAL=.2", "DATASET.TRAIN=99", "DEVICE=cpu", "SEED=3", "SOLVER.LR=1e-7"),
        ("OUTPUT_DIR='1e-3'", "DATASET.NAME=torchvision", "DATASET.WHICH=off"),
    ],
)
def test_a_dump_loads_to_an_equal_config(words) -> None:
    config = load("x.yaml", words)
    again = reloaded(config)
    assert again.tree == config.tree
    assert again.digest() == config.digest()
    assert again.dump() == config.dump()
    assert again.differences(yaml.safe_load(config.dump())) == []


def test_a_dump_has_no_aliases() -> None:
    text = load("x.yaml", ["MODULES=[]", "SOLVER.STEPS=[3]"]).dump()
    assert "&" not in text
    assert "*" not in text


def test_a_dump_writes_null_where_a_term_was_dropped() -> None:
    assert yaml.safe_load(load("x.yaml", ["LOSS.kd=null"]).dump())["LOSS"]["kd"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("OUTPUT_DIR=there",),
        ("HOOKS.metrics.PERIOD=7",),
        ("HOOKS.curves=null",),
        ("CHECKPOINT.MINUTES=1", "CHECKPOINT.KEEP=3"),
        ("DATASET.WORKERS=0",),
        ("SOLVER.LR=5e-2",),
        ("LOSS.at=null",),
        ("BASELINE=./student.yaml",),
    ],
)
def test_what_makes_no_other_run_leaves_the_digest(words) -> None:
    assert load("x.yaml", words).digest() == load("x.yaml").digest()


def test_a_datasets_root_leaves_the_digest() -> None:
    words = ["DATASET.NAME=torchvision"]
    assert load("x.yaml", [*words, "DATASET.ROOT=a"]).digest() == load("x.yaml", words).digest()


@pytest.mark.parametrize(
    "word",
    ["SEED=1", "SOLVER.LR=1", "LOSS.kd.TEMPERATURE=1", "LOSS.kd=null", "DEVICE=cpu", "BASELINE="],
)
def test_what_makes_another_run_changes_the_digest(word) -> None:
    assert load("x.yaml", [word]).digest() != load("x.yaml").digest()


def test_a_recipe_counts_by_what_it_holds_and_not_by_its_path() -> None:
    before = load("x.yaml").digest()
    Path("teacher.yaml").rename("other.yaml")
    Path("x.yaml").write_text(DISTILLED.replace("teacher.yaml", "other.yaml"))
    assert load("x.yaml").digest() == before
    Path("other.yaml").write_text(Path("other.yaml").read_text() + "SOLVER: {EPOCHS: 2}")
    assert load("x.yaml").digest() != before


def test_weights_count_by_what_they_hold() -> None:
    digests = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("a.pt", b"2")):
        Path(name).write_bytes(content)
        digests.append(load("x.yaml", [f"TEACHER.WEIGHTS={name}"]).digest())
    assert digests[0] == digests[1] != digests[2]


def test_differences_name_key_old_and_new() -> None:
    old = yaml.safe_load(load("x.yaml", ["SEED=1", "OUTPUT_DIR=a", "LOSS.kd=null"]).dump())
    new = load(
        "x.yaml", ["SOLVER.EPOCHS=50", "LOSS.kd={TEMPERATURE: 2}", "TEACHER.CONFIG=student.yaml"]
    )
    assert new.differences(old) == [
        ("SEED", 1, 0),
        ("TEACHER.NAME", "resnet34", "resnet18"),
        ("TEACHER.CONFIG", "teacher.yaml", "student.yaml"),
        ("SOLVER.EPOCHS", 40, 50),
        ("LOSS.kd.WEIGHT", None, 1.0),
        ("LOSS.kd.WARMUP", None, 0.0),
        ("LOSS.kd.START", None, 0.0),
        ("LOSS.kd.STOP", None, 0.0),
        ("LOSS.kd.TEMPERATURE", None, 2.0),
        ("LOSS.kd.STANDARDIZE", None, False),
    ]


def test_an_error_names_where_the_key_or_the_branch_above_it_was_set() -> None:
    config = load("x.yaml", ["LOSS.kd.WEIGHT=2"])
    for key, source, line in (
        ("LOSS.kd.WEIGHT", "command line", 0),
        ("LOSS.kd.TEMPERATURE", "x.yaml", 5),
        ("LOSS.kd.STANDARDIZE", "x.yaml", 5),
        ("STUDENT.NAME", "student.yaml", 2),
        ("SOLVER.LR", "x.yaml", 0),
        ("LOSS.kd", "command line", 0),
        ("LOSS.kd/again", "x.yaml", 5),
    ):
        assert str(config.error(key, "why")) == f"{source}: {key}: why" + (
            f" (line {line})" if line else ""
        )
