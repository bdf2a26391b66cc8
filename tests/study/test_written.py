"""A study's file: what it says, and the one line that answers a wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdframe.config import ConfigError
from kdframe.study.written import read_study

ROOT = Path(__file__).parents[2]
SEARCH = "SEARCH: {{ROW: student, SPACE: {{SOLVER: {{LR: {{LOW: 0.01, HIGH: 0.1}}}}}}, {}}}"


def write(here: Path, text: str) -> Path:
    path = here / "study.yaml"
    path.write_text(text)
    return Path(path.name)


def test_a_row_has_its_own_seeds_and_baseline_or_the_studys(here) -> None:
    study = read_study("study.yaml")
    assert {name: row.seeds for name, row in study.rows.items()} == {
        "teacher": (0,), "student": (0, 1), "kd": (0, 1), "feature": (0,),
    }  # fmt: skip
    assert (study.rows["teacher"].baseline, study.rows["kd"].baseline) == ("", "student")
    assert study.rows["kd"].label == "soft labels" and study.rows["student"].label == "student"
    assert (study.name, study.output_dir) == ("study", Path("runs/studies/study"))


def test_a_study_may_have_a_base_and_drop_a_row_of_it(here) -> None:
    (here / "other.yaml").write_text("_BASE_: study.yaml\nROWS: {feature: null}\nSEEDS: [5]\n")
    study = read_study("other.yaml")
    assert [*study.rows] == ["teacher", "student", "kd"]
    assert study.rows["kd"].seeds == (5,)


def test_overrides_reach_the_config_the_rows_over_the_studys(here) -> None:
    write(
        here,
        "OVERRIDES: {SOLVER: {LR: 0.5, EPOCHS: 7}}\n"
        "ROWS: {a: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {LR: 0.25}}}}\n",
    )
    study = read_study("study.yaml")
    tree = study.draft(study.rows["a"], 3).tree
    assert (tree.SOLVER.LR, tree.SOLVER.EPOCHS, tree.SEED) == (0.25, 7, 3)


def test_paths_in_overrides_are_of_the_file_that_they_stand_in(here) -> None:
    """OVERRIDES of two files are one mapping; each path is beside its own."""
    (here / "base").mkdir()
    (here / "base/common.yaml").write_text(
        "OVERRIDES: {BASELINE: ../student.yaml, SOLVER: {LR: 0.02}}\n"
        "ROWS: {a: {CONFIG: ../kd.yaml, OVERRIDES: {TEACHER: {CONFIG: ../teacher.yaml}}}}\n"
    )
    (here / "big.yaml").write_text("_BASE_: teacher.yaml\nSTUDENT: {WIDTH: 24}\n")
    write(
        here,
        "_BASE_: base/common.yaml\n"
        "ROWS: {a: {OVERRIDES: {TEACHER: {CONFIG: big.yaml}}}, b: {CONFIG: kd.yaml}}\n",
    )
    study = read_study("study.yaml")
    a, b = (study.draft(study.rows[name], 0).recipes for name in "ab")
    assert a["TEACHER.CONFIG"].path == Path("big.yaml")
    assert b["TEACHER.CONFIG"].path.name == "teacher.yaml"
    assert {a["BASELINE"].path, b["BASELINE"].path} == {Path("student.yaml")}


STUDENT = "ROWS: {student: {CONFIG: student.yaml}}\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "study.yaml: ROWS takes a mapping of one row or more"),
        ("ROW: {}", "study.yaml: there is no ROW. Did you mean ROWS?"),
        ("ROWS: {a: {CONFG: x.yaml}}", "there is no ROWS.a.CONFG. Did you mean ROWS.a.CONFIG?"),
        ("ROWS: {a: {LABEL: x}}", "ROWS.a.CONFIG: nothing is named here"),
        (
            "ROWS: {a: {CONFIG: studnt.yaml}}",
            "ROWS.a.CONFIG: there is no file studnt.yaml. Did you mean student.yaml?",
        ),
        ("ROWS: {search: {CONFIG: student.yaml}}", "a row's name is letters, digits, _ and -"),
        (STUDENT + "SEEDS: [0, 0]", "SEEDS takes a list (each element an int) of different"),
        (STUDENT + "SEEDS: many", "SEEDS takes a list (each element an int), not 'many'."),
        (STUDENT + "BASELINE: studnt", "BASELINE: there is no row 'studnt'. Did you mean student?"),
        (STUDENT + "TEACHER_CACHE: fp8", "one of off, fp32, fp16, not 'fp8'."),
        (STUDENT + "NAME: a b", "NAME takes letters, digits, _, . and -, not 'a b'."),
        (STUDENT + "OVERRIDES: {SEED: 1}", "OVERRIDES.SEED: a study sets it for every run"),
        (STUDENT + "OVERRIDES: [SOLVER.LR, 1]", "OVERRIDES takes a mapping as a config has it"),
        (
            STUDENT + "OVERRIDES: {SOLVER: {LRR: 1}}",
            "study.yaml: OVERRIDES: there is no SOLVER.LRR. Did you mean SOLVER.LR?",
        ),
        (
            "ROWS: {a: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {LR: many}}}}",
            "study.yaml: ROWS.a.OVERRIDES: SOLVER.LR takes a finite number, not 'many'.",
        ),
        (STUDENT + "SEARCH: {ROW: studnt}", "SEARCH.ROW: there is no row 'studnt'. Did you mean"),
        (STUDENT + "SEARCH: {ROW: student}", "SEARCH.SPACE takes a mapping as a config has it"),
        (
            STUDENT + "SEARCH: {ROW: student, SPACE: {SEED: {CHOICES: [3, 4]}}}",
            "study.yaml: SEARCH.SPACE.SEED: a study sets it for every run itself.",
        ),
        (STUDENT + SEARCH.format("METRIC: test/top1"), "not 'test/top1'. Did you mean val/top1?"),
        (STUDENT + SEARCH.format("SAMPLER: tp"), "one of tpe, random, grid, not 'tp'."),
        (STUDENT + SEARCH.format("SAMPLER: grid"), "SOLVER.LR needs CHOICES or a STEP"),
        (
            STUDENT + "OVERRIDES: {DATASET: {VAL: 0}}\n" + SEARCH.format("TRIALS: 3"),
            "study.yaml: OVERRIDES: DATASET.VAL: it is 0, and a search looks at validation only.",
        ),
        (
            STUDENT + "SEARCH: {ROW: student, SPACE: {SOLVER: {LR: {LOW: 1, HIGH: 0.1}}}}",
            "SEARCH.SPACE.SOLVER.LR: it takes LOW and HIGH, LOW below HIGH",
        ),
        (
            STUDENT + "SEARCH: {ROW: student, SPACE: {SOLVER: {LR: {LOW: 1, HIHG: 2}}}}",
            "there is no SEARCH.SPACE.SOLVER.LR.HIHG. Did you mean SEARCH.SPACE.SOLVER.LR.HIGH?",
        ),
    ],
)
def test_a_wrong_study_is_answered_in_one_line(here, text, answer) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(write(here, text))
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("study.yaml: ")


def test_a_study_is_read_without_torch(here) -> None:
    script = (
        "import sys; from kdframe.study.written import read_study; read_study('study.yaml');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_config_of_one_run_is_told_from_a_study() -> None:
    with pytest.raises(ConfigError, match=r"kd_feature.yaml: it is the config of one run; a study"):
        read_study("kd_feature.yaml")
