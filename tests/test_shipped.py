"""Which file a config's name means: one that is there, or else one that kdframe ships."""

from pathlib import Path

import pytest

from kdframe.config import read
from kdframe.shipped import find, folder, names
from kdframe.values import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def where(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find(name)
    return str(caught.value)


@pytest.mark.parametrize("name", names())
def test_every_name_is_found_from_an_empty_folder(name) -> None:
    assert find(name) == folder() / name == ROOT / "configs" / name


def test_a_base_is_no_config_of_its_own() -> None:
    assert not [name for name in names() if Path(name).name == "base.yaml"]
    assert refusal("cifar100/base.yaml").startswith("there is no file cifar100/base.yaml.")


def test_a_file_that_is_there_comes_first(where) -> None:
    (where / "cifar10").mkdir()
    for name in ("student.yaml", "cifar10/student.yaml"):
        (where / name).write_text("")
        assert find(name) == Path(name)
        assert find(where / name) == where / name


@pytest.mark.parametrize("name", ["../configs/student.yaml", "cifar100/../student.yaml"])
def test_only_a_listed_name_leads_into_the_package(name) -> None:
    assert refusal(name).startswith(f"there is no file {name}.")


def test_an_absolute_path_is_only_that_file(where) -> None:
    with pytest.raises(ConfigError, match="there is no file "):
        read(where / "student.yaml")


def test_what_is_there_and_no_file_is_not_replaced(where) -> None:
    (where / "student.yaml").mkdir()
    (where / "kd_feature.yaml").symlink_to("nowhere.yaml")
    for name in ("student.yaml", "kd_feature.yaml"):
        with pytest.raises(ConfigError, match=name):
            read(name)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("studnt.yaml", "there is no file studnt.yaml. Did you mean student.yaml?"),
        (
            "configs/student.yaml",
            "there is no file configs/student.yaml. Did you mean student.yaml?",
        ),
        ("student", "student is no .yaml file; nothing else is read. Did you mean student.yaml?"),
        ("x.json", "x.json is no .yaml file; nothing else is read."),
        (
            "resnet56_resnet20/dkd.yaml",
            "there is no file resnet56_resnet20/dkd.yaml. "
            "Did you mean cifar100/resnet56_resnet20/dkd.yaml?",
        ),
        (
            "mine.yaml",
            "there is no file mine.yaml. kdframe parts configs lists those that come with kdframe.",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, answer) -> None:
    assert refusal(name) == answer


def test_what_lies_in_the_folder_is_nearer_than_what_is_shipped(where) -> None:
    (where / "students.yaml").write_text("")
    assert refusal("studnt.yaml").endswith("Did you mean students.yaml?")


def test_a_config_that_is_read_by_name_finds_its_base_and_recipes_beside_it() -> None:
    draft = read("kd_feature.yaml", ["SEED=3"])
    assert draft.tree.SEED == 3
    assert draft.tree.DATASET.VAL == 120  # of base.yaml
    assert Path(draft.tree.TEACHER.CONFIG) == folder() / "teacher.yaml"
    assert Path(draft.tree.BASELINE) == folder() / "student.yaml"
