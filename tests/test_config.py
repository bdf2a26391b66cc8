import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdframe.config import ConfigError, load, read

ROOT = Path(__file__).parents[1]
STUDENT = """
STUDENT: {NAME: resnet18}
DATASET: {NAME: glyphs}
LOSS: {cross_entropy: {}}
"""
TEACHER = STUDENT.replace("resnet18", "resnet34")
DISTILLED = """
_BASE_: student.yaml
TEACHER: {CONFIG: teacher.yaml}
BASELINE: student.yaml
LOSS: {kd: {WEIGHT: .5, TEMPERATURE: 5}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with three configs, that read one another."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("student", STUDENT), ("teacher", TEACHER), ("x", DISTILLED)):
        write(text, f"configs/{name}.yaml")
    return tmp_path


def write(text: str, path: str = "configs/y.yaml") -> str:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)
    return path


def refusal(*words: str, path: str = "configs/x.yaml", of=read) -> str:
    with pytest.raises(ConfigError) as error:
        of(path, words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_key_is_answered_before_torch_is_imported() -> None:
    code = """
import sys, time
start = time.perf_counter()
from kdframe.config import ConfigError, read
try:
    read("configs/x.yaml", ["SOLVER.EPOCH", "3"])
except ConfigError as error:
    print(error, time.perf_counter() - start < 1, "torch" in sys.modules, sep="|")
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    sentence = "command line: there is no SOLVER.EPOCH. Did you mean SOLVER.EPOCHS?"
    assert answer.stdout == f"{sentence}|True|False\n"


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        (
            "solver.lr=.1",
            "'solver.lr=.1' is no key; settings are written KEY VALUE or KEY=VALUE, as in "
            "SOLVER.LR 0.1. Did you mean SOLVER.LR?",
        ),
        (
            "SOLVER.WARMUP_EPOCHS=40",
            "SOLVER.WARMUP_EPOCHS: it takes less than EPOCHS, 40, not 40.",
        ),
        ("LR=.1", "there is no LR. Did you mean SOLVER.LR?"),
        (
            "SOLVER.TEMPERATURE=3",
            "there is no SOLVER.TEMPERATURE. Did you mean LOSS.kd.TEMPERATURE?",
        ),
        ("LOS.kd={}", "there is no LOS. Did you mean LOSS?"),
        ("STUDENT.name=a", "there is no STUDENT.name. Did you mean STUDENT.NAME?"),
        ("SOLVER.EPOCHS=many", "SOLVER.EPOCHS takes an int, not 'many'."),
        ("SOLVER.EPOCHS=0", "SOLVER.EPOCHS takes an int of at least 1, not 0."),
        ("SOLVER.LR=nan", "SOLVER.LR takes a finite number above 0, not nan."),
        ("SOLVER.MOMENTUM=1", "SOLVER.MOMENTUM takes a finite number from 0 to below 1, not 1."),
        ("SOLVER.NESTEROV=1", "SOLVER.NESTEROV takes true or false, not 1."),
        ("LOSS.kd.WEIGHT=true", "LOSS.kd.WEIGHT takes a finite number, not true."),
        ("LOSS.kd.START=-1", "LOSS.kd.START takes a finite number of at least 0, not -1."),
        ("LOSS.kd=3", "LOSS.kd takes a mapping, or null to drop it, not 3."),
        ("SOLVER=null", "SOLVER takes a mapping, not null."),
        ("SEED=null", "SEED takes an int, not null."),
        ("CHECKPOINT.KEEP=1", "CHECKPOINT.KEEP takes an int of at least 2, not 1."),
        (
            "SOLVER.SCHEDULE=cosin",
            "SOLVER.SCHEDULE takes one of constant, steps, cosine, not 'cosin'. "
            "Did you mean cosine?",
        ),
        (
            "SOLVER.STEPS=[3, 3]",
            "SOLVER.STEPS takes a list (each element an int) rising from 1 on, not [3, 3].",
        ),
        (
            "DATASET.VAL=1.5",
            "DATASET.VAL takes a finite number of at least 0 (a fraction, or from 1 on whole "
            "images), not 1.5.",
        ),
        ("SOLVER.SCHEDULE=steps", "SOLVER.SCHEDULE: steps needs STEPS, the epochs to lower LR at."),
        ("SOLVER.ACCUMULATE=3", "SOLVER.ACCUMULATE: 3 doesn't divide BATCH_SIZE, 128."),
        ("LOSS.kd={START: 3, STOP: 2}", "LOSS.kd.STOP: 2.0 isn't after START, 3.0."),
        ("STUDENT.NAME=", "STUDENT.NAME: nothing is named here, and there is no default."),
        ("DATASET.NAME=", "DATASET.NAME: nothing is named here, and there is no default."),
        ("BASELINE=studnt.yaml", "BASELINE: there is no file studnt.yaml."),
        (
            "TEACHER.WEIGHTS=pretraned",
            "TEACHER.WEIGHTS: there is no file pretraned, and it is not pretrained or random. "
            "Did you mean pretrained?",
        ),
        (
            "STUDENT.WEIGHTS=random",
            "STUDENT.WEIGHTS: there is no file random, and it is not pretrained.",
        ),
        (
            "TEACHER.NAME=resnet50",
            "TEACHER.NAME: 'resnet50' here, and configs/teacher.yaml has 'resnet34'.",
        ),
    ],
)
def test_a_wrong_setting_is_answered_in_one_line(setting, answer) -> None:
    assert refusal(setting) == f"command line: {answer}"


def test_a_message_names_the_file_that_is_wrong() -> None:
    write("_BASE_: x.yaml\nSOLVER: {EPOCHS: 2}")
    write(STUDENT + "SOLVER: {EPOCHS: many}", "configs/student.yaml")
    sentence = "SOLVER.EPOCHS takes an int, not 'many'."
    assert refusal(path="configs/y.yaml") == f"configs/student.yaml: {sentence} (line 5)"
    write(STUDENT, "configs/student.yaml")
    write(TEACHER + "SEED: -1", "configs/teacher.yaml")
    assert refusal(path="configs/y.yaml").startswith("configs/teacher.yaml: SEED takes ")


def test_a_loss_needs_a_term() -> None:
    nothing = "STUDENT: {NAME: resnet18}\nDATASET: {NAME: glyphs}\n"
    path = write(nothing)
    assert refusal(path=path).startswith("configs/y.yaml: LOSS: it has no term")
    write(nothing + "LOSS:\n  kd:\n")
    assert refusal(path=path).endswith(
        "every term is null, which drops it; one without options is kd: {}. (line 3)"
    )
    write(nothing + "LOSS:\n  cross_entropy: {}\n  kd:\n")
    (warning,) = read(path).warnings
    assert warning.startswith("configs/y.yaml: LOSS.kd: it is null and drops nothing")


def test_null_drops_an_entry_and_a_mapping_brings_it_back() -> None:
    dropped = read("configs/x.yaml", ["LOSS.kd", "null", "HOOKS.curves", "null"])
    assert dropped.tree.LOSS.kd is None
    assert dropped.tree.HOOKS.curves is None
    assert dropped.warnings == ()
    write("_BASE_: x.yaml\nLOSS: {kd: null}")
    back = load("configs/y.yaml", ["LOSS.kd={}"])
    assert (back.tree.LOSS.kd.WEIGHT, back.tree.LOSS.kd.TEMPERATURE) == (1.0, 4.0)


def test_an_optimizer_and_parts_are_named_in_whatever_case() -> None:
    for word, answer in (
        ("SOLVER.OPTIMIZER=SGD", "SOLVER.OPTIMIZER: timm has no 'SGD'. Did you mean sgd?"),
        ("LOSS={KD: {}}", "LOSS: distillers has no 'KD'. Did you mean kd?"),
        ("DATASET.NAME=CIFAR10", "DATASET.NAME: datasets has no 'CIFAR10'. Did you mean cifar10?"),
    ):
        assert refusal(word, of=load) == f"command line: {answer}"


def test_a_study_is_no_config() -> None:
    path = write("SEEDS: [0]\nROWS: {a: {CONFIG: x.yaml}}")
    said = "configs/y.yaml is a study: tools/run_study.py --study configs/y.yaml runs it."
    assert refusal(path=path) == said


def test_a_teacher_needs_something_to_teach() -> None:
    path = write("_BASE_: student.yaml\nTEACHER: {NAME: resnet34}")
    answer = "a teacher needs WEIGHTS or CONFIG (or WEIGHTS: random)."
    assert refusal(path=path) == f"configs/y.yaml: TEACHER: {answer} (line 2)"
    assert read(path, ["TEACHER.WEIGHTS=random"]).tree.TEACHER.WEIGHTS == "random"
    write("_BASE_: student.yaml\nTEACHER: {DEPTH: 34}")
    assert refusal(path=path).endswith(
        "TEACHER: it has settings, and neither NAME nor CONFIG. (line 2)"
    )


def test_recipes_in_a_circle_are_refused() -> None:
    write(TEACHER + "BASELINE: x.yaml", "configs/teacher.yaml")
    answer = "configs/teacher.yaml: BASELINE: configs/x.yaml leads back to itself."
    assert refusal() == answer


def test_a_recipe_has_no_folder_of_its_own_and_a_baseline_no_teacher() -> None:
    write(TEACHER + "OUTPUT_DIR: here", "configs/teacher.yaml")
    assert refusal().startswith("configs/teacher.yaml: OUTPUT_DIR: it stays empty in a recipe")
    assert "configs/teacher.yaml: OUTPUT_DIR" in refusal("OUTPUT_DIR=there")
    write(TEACHER, "configs/teacher.yaml")
    write("_BASE_: x.yaml\nBASELINE: x.yaml")
    write(DISTILLED.replace("BASELINE: student.yaml", ""), "configs/x.yaml")
    assert "configs/x.yaml: TEACHER: the BASELINE of " in refusal(path="configs/y.yaml")


def test_a_recipe_shares_the_data_of_a_command_line_and_a_baseline_the_seed() -> None:
    write("_BASE_: x.yaml\nSEED: 5\nDATASET: {VAL: .3}\nSOLVER: {EPOCHS: 2}")
    config = read("configs/y.yaml", ["DATASET.TRAIN=99", "DEVICE=cpu", "SOLVER.LR=3"])
    teacher, baseline = config.recipes["TEACHER.CONFIG"], config.recipes["BASELINE"]
    assert (config.tree.SEED, teacher.tree.SEED, baseline.tree.SEED) == (5, 0, 5)
    for recipe in (teacher, baseline):
        assert (recipe.tree.DATASET.TRAIN, recipe.tree.DATASET.VAL) == (99, 0.1)
        assert (recipe.tree.DEVICE, recipe.tree.SOLVER.LR) == ("cpu", 0.05)
        assert recipe.tree.SOLVER.EPOCHS == 40


def test_a_baseline_trains_the_same_student() -> None:
    answer = (
        "BASELINE: STUDENT.NAME is 'resnet50' in configs/y.yaml, and configs/student.yaml has "
        "'resnet18'."
    )
    write("_BASE_: x.yaml\nSTUDENT: {NAME: resnet50}\nBASELINE: student.yaml")
    assert refusal(path="configs/y.yaml", of=load) == f"configs/y.yaml: {answer} (line 3)"


def test_a_baseline_trains_on_the_same_images() -> None:
    answer = (
        "BASELINE: DATASET.VAL is 0.3 in configs/y.yaml, and configs/student.yaml has 0.1. On a "
        "command line it is for both."
    )
    write("_BASE_: x.yaml\nDATASET: {VAL: .3}")
    assert refusal(path="configs/y.yaml", of=load) == f"configs/x.yaml: {answer} (line 4)"
    write("_BASE_: x.yaml\nDATASET: {WORKERS: 7}")
    assert load("configs/y.yaml", ["DATASET.VAL=.3"]).recipes["BASELINE"].tree.DATASET.VAL == 0.3


def test_paths_are_relative_to_the_file_that_names_them(folder) -> None:
    write("_BASE_: ../configs/x.yaml\nBASELINE: ''", "other/y.yaml")
    tree = read("other/y.yaml", ["BASELINE=configs/student.yaml"]).tree
    assert Path(tree.TEACHER.CONFIG).samefile(folder / "configs/teacher.yaml")
    assert Path(tree.BASELINE) == folder / "configs/student.yaml"


def test_more_teachers_stand_in_branches_of_their_own() -> None:
    write("_BASE_: x.yaml\nTEACHER/2: {NAME: resnet50, WEIGHTS: random, SMALL_INPUT: true}")
    config = load("configs/y.yaml", ["TEACHER/3.CONFIG=configs/teacher.yaml"])
    tree = config.tree
    assert tree["TEACHER/2"].NAME == "resnet50" and tree["TEACHER/2"].SMALL_INPUT is True
    assert (tree["TEACHER/3"].NAME, tree["TEACHER/3"].WEIGHTS) == ("resnet34", "")
    assert {"TEACHER.CONFIG", "TEACHER/3.CONFIG", "BASELINE"} == config.recipes.keys()
    write(config.dump(), "z.yaml")
    assert load("z.yaml").digest() == config.digest()
    assert load("configs/y.yaml").digest() != load("configs/x.yaml").digest()


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("TEACHER/2.NAME=resnet18", "TEACHER/2: a teacher needs WEIGHTS or CONFIG"),
        ("TEACHER/2.WEIGHTS=random", "TEACHER/2: it has settings, and neither NAME nor CONFIG."),
        ("TEACHER/2.weights=random", "no TEACHER/2.weights. Did you mean TEACHER/2.WEIGHTS?"),
        ("TEACHER2.NAME=resnet18", "there is no TEACHER2. Did you mean TEACHER/2?"),
        ("TEACHR/2.NAME=resnet18", "there is no TEACHR/2. Did you mean TEACHER/2?"),
        ("TEACHER/2={NAME: resnet18, TRAIN: true}", "TEACHER/2.TRAIN: only TEACHER can learn"),
        ("TEACHER/2={NAME: resnet18, WEIGHTS: ther.pt}", "TEACHER/2.WEIGHTS: there is no file"),
    ],
)
def test_a_wrong_further_teacher_is_refused_by_its_branch(setting, answer) -> None:
    assert answer in refusal(setting)


def test_a_further_teacher_needs_a_first() -> None:
    words = ("TEACHER.CONFIG=", "TEACHER/2.CONFIG=configs/teacher.yaml")
    assert "TEACHER/2: it is one more teacher, and TEACHER names none." in refusal(*words)


def test_a_teacher_that_learns_needs_no_weights() -> None:
    write("_BASE_: student.yaml\nTEACHER: {NAME: resnet18, TRAIN: true}\nLOSS: {kd: {}}")
    assert load("configs/y.yaml").tree.TEACHER.TRAIN


def test_a_slip_in_a_key_that_is_missed_is_answered_by_that_key() -> None:
    path = write(STUDENT.replace("NAME: resnet18", "NMAE: resnet18"))
    answer = "there is no STUDENT.NMAE. Did you mean STUDENT.NAME? (line 2)"
    assert refusal(path=path) == f"configs/y.yaml: {answer}"
    path = write("_BASE_: student.yaml\nTEACHER: {NAME: resnet34, WEIGHT: random}")
    answer = "there is no TEACHER.WEIGHT. Did you mean TEACHER.WEIGHTS? (line 2)"
    assert refusal(path=path) == f"configs/y.yaml: {answer}"
    path = write("_BASE: student.yaml")
    assert refusal(path=path).endswith("there is no _BASE. Did you mean _BASE_? (line 1)")


def test_an_int_has_64_bits() -> None:
    answer = "SOLVER.EPOCHS takes an int of at least 1, not 9223372036854775808. It has more than"
    assert refusal("SOLVER.EPOCHS=9223372036854775808").startswith(f"command line: {answer}")
    assert read("configs/x.yaml", ["SOLVER.EPOCHS=9223372036854775807"]).tree.SOLVER.EPOCHS > 0
