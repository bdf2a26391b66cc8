import sys
from pathlib import Path
from typing import Literal

import pytest

from kdframe.backbones import Output
from kdframe.config import ConfigError, load
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS

CONFIG = """
STUDENT: {NAME: small}
TEACHER: {NAME: big, WEIGHTS: random}
DATASET: {NAME: stripes}
LOSS: {alone: {}, match: {}, match/again: {POWER: 2}}
HOOKS: {progress: null, metrics: null, tensorboard: null, complexity: null, curves: null, watch: {}}
"""


def small(num_classes, *, depth: int = 3, small_input: bool = False): ...
def big(num_classes, *, width: float = 2, widths: tuple[int, ...] = (1, 2)): ...
def stripes(split, *, root: str = "here"): ...
def watch(output_dir, *, period=5): ...
def alone(student: Output, teacher: Output | None, batch, *, smoothing: float = 0.0): ...


def match(
    student: Output,
    teacher: Output,
    batch,
    *,
    power: float = 1.0,
    pairs: tuple[tuple[int, int], ...] = (),
    mode: Literal["sum", "mean"] = "sum",
): ...


class Deploying:
    def __init__(self, student, teacher): ...
    def deployed(self, student): ...


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with one config, and registries with parts of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    parts = {
        BACKBONES: (small, big),
        DATASETS: (stripes,),
        DISTILLERS: (alone, match),
        HOOKS: (watch,),
    }
    for registry, own in parts.items():
        list(registry)  # its folder is imported before the parts are swapped
        monkeypatch.setattr(registry, "_parts", {**registry._parts})
        for part in own:
            registry.register(part.__name__)(part)
    DISTILLERS.register("deploying")(Deploying)
    Path("x.yaml").write_text(CONFIG)
    return tmp_path


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as error:
        load("x.yaml", words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_options_of_the_named_parts_join_their_branches() -> None:
    tree = load("x.yaml", ["LOSS.match.PAIRS=[[1, 2]]", "TEACHER.WIDTH=1"]).tree
    assert tree.STUDENT == {"NAME": "small", "WEIGHTS": "", "DEPTH": 3, "SMALL_INPUT": False}
    assert (tree.TEACHER.WIDTH, type(tree.TEACHER.WIDTH)) == (1.0, float)
    assert tree.DATASET.ROOT == "here"
    assert tree.HOOKS.watch == {"PERIOD": 5}
    assert tree.LOSS.match.PAIRS == ((1, 2),)
    assert (tree.LOSS["match"].POWER, tree.LOSS["match/again"].POWER) == (1.0, 2.0)
    assert tree.is_frozen()
    assert tree.LOSS.match.is_frozen()


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("STUDENT.NAME=smal", "STUDENT.NAME: backbones has no 'smal'. Did you mean small?"),
        ("DATASET.NAME=stripe", "DATASET.NAME: datasets has no 'stripe'. Did you mean stripes?"),
        ("LOSS.mtch={}", "LOSS: distillers has no 'mtch'. Did you mean match?"),
        ("HOOKS.wach={}", "HOOKS: hooks has no 'wach'. Did you mean watch?"),
        ("LOSS.match.POWR=1", "there is no LOSS.match.POWR. Did you mean LOSS.match.POWER?"),
        ("TEACHER.POWER=1", "there is no TEACHER.POWER. Did you mean LOSS.match.POWER?"),
        ("STUDENT.DEPTH=3.5", "STUDENT.DEPTH takes an int, not 3.5."),
        ("STUDENT.DEPTH=null", "STUDENT.DEPTH takes an int, not null."),
        ("LOSS.match.POWER=.nan", "LOSS.match.POWER takes a finite number, not nan."),
        (
            "LOSS.match.MODE=men",
            "LOSS.match.MODE takes one of sum, mean, not 'men'. Did you mean mean?",
        ),
        ("HOOKS.watch.PERIOD=true", "HOOKS.watch.PERIOD takes an int, not true."),
        ("TEACHER.WIDTHS=[a]", "TEACHER.WIDTHS takes a list (each element an int), not ['a']."),
    ],
)
def test_a_wrong_part_or_option_is_answered_with_the_nearest(setting, answer) -> None:
    assert refusal(setting) == f"command line: {answer}"


def test_a_part_in_the_file_is_answered_by_the_files_name() -> None:
    Path("x.yaml").write_text(CONFIG.replace("alone: {}", "alon: {}"))
    assert refusal("SEED=1") == (
        "x.yaml: LOSS: distillers has no 'alon'. Did you mean alone? (line 5)"
    )


def test_a_term_without_a_teacher_to_learn_from_is_refused() -> None:
    without = CONFIG.replace("TEACHER: {NAME: big, WEIGHTS: random}", "")
    Path("x.yaml").write_text(without)
    assert refusal() == ("x.yaml: LOSS.match: it needs a teacher, and TEACHER names none. (line 5)")
    assert not load("x.yaml", ["LOSS.match=null", "LOSS.match/again=null"]).tree.TEACHER.NAME


def test_options_of_a_part_that_was_replaced_fall_away_with_a_warning() -> None:
    Path("x.yaml").write_text(CONFIG.replace("NAME: small", "NAME: small, DEPTH: 9"))
    config = load("x.yaml", ["STUDENT.NAME=big", "STUDENT.WIDTH=3"])
    assert config.tree.STUDENT == {"NAME": "big", "WEIGHTS": "", "WIDTH": 3.0, "WIDTHS": (1, 2)}
    assert config.warnings == (
        "x.yaml: STUDENT.DEPTH: it has no effect: STUDENT.NAME is now big. (line 2)",
    )
    assert "STUDENT.DEPTH" not in config.sources


def test_options_that_the_layer_of_the_name_sets_in_vain_are_refused() -> None:
    assert refusal("STUDENT.NAME=big", "STUDENT.DEPTH=3").startswith(
        "command line: there is no STUDENT.DEPTH."
    )
    Path("base.yaml").write_text("STUDENT: {DEPHT: 3}")
    Path("x.yaml").write_text("_BASE_: base.yaml\n" + CONFIG)
    assert refusal() == (
        "base.yaml: there is no STUDENT.DEPHT. Did you mean STUDENT.DEPTH? (line 1)"
    )


def test_a_teachers_options_are_its_recipes() -> None:
    alone = CONFIG.replace("match: {}, match/again: {POWER: 2}", "").replace(
        "TEACHER: {NAME: big, WEIGHTS: random}", ""
    )
    Path("teacher.yaml").write_text(alone.replace("NAME: small", "NAME: big, WIDTH: 7"))
    Path("x.yaml").write_text(CONFIG.replace("NAME: big, WEIGHTS: random", "CONFIG: teacher.yaml"))
    teacher = load("x.yaml", ["TEACHER.WIDTH=7"]).tree.TEACHER
    assert (teacher.NAME, teacher.WIDTH) == ("big", 7.0)
    answer = "command line: TEACHER.WIDTH: 6.0 here, and teacher.yaml has 7.0."
    assert refusal("TEACHER.WIDTH=6") == answer


def test_a_recipe_that_deploys_another_network_than_its_student_trains_no_teacher() -> None:
    recipe = CONFIG.replace("match: {}, match/again: {POWER: 2}", "deploying/a: {}")
    Path("teacher.yaml").write_text(recipe.replace("NAME: small", "NAME: big"))
    Path("x.yaml").write_text(CONFIG.replace("NAME: big, WEIGHTS: random", "CONFIG: teacher.yaml"))
    answer = "x.yaml: TEACHER.CONFIG: what teacher.yaml trains can't teach: deploying/a makes"
    assert refusal().startswith(answer)
    assert load("x.yaml", ["TEACHER.WEIGHTS=random"]).tree.TEACHER.NAME == "big"


def test_modules_of_the_working_folder_register_their_parts(folder) -> None:
    text = "from kdframe.registry import DISTILLERS\n"
    text += "@DISTILLERS.register('mine')\n"
    text += "def mine(student, teacher, batch, *, scale: float = 1.0): ...\n"
    (folder / "my_terms_of_a_test.py").write_text(text)
    tree = load("x.yaml", ["MODULES=[my_terms_of_a_test]", "LOSS.mine={SCALE: 2}"]).tree
    assert tree.LOSS.mine.SCALE == 2.0


def test_a_module_that_fails_is_named_with_its_reason(folder) -> None:
    answer = "command line: MODULES: nowhere can't be imported: ModuleNotFoundError: "
    assert refusal("MODULES=[nowhere]") == f"{answer}No module named 'nowhere'"
    (folder / "failing_in_a_test.py").write_text("raise RuntimeError('two\\nlines')")
    answer = "command line: MODULES: failing_in_a_test can't be imported: RuntimeError: two lines"
    assert refusal("MODULES=[failing_in_a_test]") == answer


def test_an_option_may_not_take_a_key_of_kdframes() -> None:
    DISTILLERS.register("heavy")(lambda student, teacher, batch, *, weight=1.0: None)
    assert "LOSS.heavy: heavy has an option that is kdframe's own key: WEIGHT" in refusal(
        "LOSS.heavy={}"
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("antigravity", "antigravity is Python's own and has no part."),
        ("os.path", "os.path is Python's own and has no part."),
        ("kdframe.run", "kdframe.run is kdframe's own; its parts are there without it."),
        ("torch.__main__", "it takes names of modules, as in [my_terms], not 'torch.__main__'."),
        (
            "my_terms.py",
            "it takes names of modules, as in [my_terms]: 'my_terms.py' without its .py.",
        ),
        ("'a;b'", "it takes names of modules, as in [my_terms], not 'a;b'."),
        ("../x", "it takes names of modules, as in [my_terms], not '../x'."),
        ("''", "it takes names of modules, as in [my_terms], not ''."),
    ],
)
def test_a_name_that_no_module_of_parts_can_have_is_not_imported(name, answer) -> None:
    assert refusal(f"MODULES=[{name}]") == f"command line: MODULES: {answer}"


def test_a_module_beside_the_config_is_not_found_there(folder) -> None:
    """Only what is installed or in the working folder can be named."""
    (folder / "theirs").mkdir()
    (folder / "theirs/planted_in_a_test.py").write_text("open('ran', 'w').close()")
    (folder / "theirs/x.yaml").write_text(Path("x.yaml").read_text())
    with pytest.raises(ConfigError, match="No module named 'planted_in_a_test'"):
        load("theirs/x.yaml", ["MODULES=[planted_in_a_test]"])
    assert not Path("ran").exists()


def test_a_module_that_registers_nothing_has_no_effect(folder) -> None:
    (folder / "empty_in_a_test.py").write_text("x = 1\n")
    (warning,) = load("x.yaml", ["MODULES=[empty_in_a_test]"]).warnings
    answer = "MODULES: it has no effect: empty_in_a_test registers no part."
    assert warning == f"command line: {answer}"
