"""The runs behind the rows: none twice, recipes first, and commands that train the same."""

import json
import shutil
from pathlib import Path

import pytest

from kdframe.config import ConfigError, load
from kdframe.run import recipe_folder
from kdframe.study.planning import Plan, plan, refuse_changed, settle_link
from kdframe.study.written import read_study


@pytest.fixture
def planned(here) -> Plan:
    return plan(read_study("study.yaml"))


def test_a_row_that_is_another_rows_recipe_is_one_run(planned) -> None:
    assert [*planned.runs] == [
        "teacher/s0", "student/s0", "student/s1", "kd/s0", "feature/s0", "kd/s1",
    ]  # fmt: skip
    assert planned.runs["kd/s1"].needs == ("teacher/s0", "student/s1")
    assert planned.runs["student/s1"].link == Path(
        f"runs/recipes/student-{planned.runs['student/s1'].digest[:12]}"
    )


def test_a_recipe_that_is_no_row_comes_first(here) -> None:
    (here / "one.yaml").write_text("ROWS: {kd: {CONFIG: kd.yaml}}\n")
    runs = plan(read_study("one.yaml")).runs
    names = [key.partition("-")[0] for key in runs]
    assert names == ["teacher", "student", "kd/s0"]


def after_option(command: list[str]) -> list[str]:
    return command[command.index("--config-file") + 1 :]


def test_a_command_is_called_as_the_study_was(planned, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["tools/run_study.py", "--study", "study.yaml"])
    assert planned.runs["kd/s0"].command()[:2] == ["tools/train_net.py", "--config-file"]
    monkeypatch.setattr("sys.argv", ["/usr/bin/kdframe", "study"])
    assert planned.runs["kd/s0"].command()[:3] == ["kdframe", "train", "--config-file"]


def test_every_command_trains_the_very_config(planned) -> None:
    for run in planned.runs.values():
        file, *words = after_option(run.command())
        again = load(file, words)
        assert again.digest() == run.digest, run.key
        assert str(run.folder) == again.tree.OUTPUT_DIR


def test_a_term_that_the_study_drops_and_a_row_brings_back_is_new(here) -> None:
    """Whoever trains the row by its command has the default temperature too."""
    (here / "warm.yaml").write_text("_BASE_: kd.yaml\nLOSS: {kd: {TEMPERATURE: 7}}\n")
    (here / "one.yaml").write_text(
        "OVERRIDES: {LOSS: {kd: null}}\n"
        "ROWS: {a: {CONFIG: warm.yaml, OVERRIDES: {LOSS: {kd: {WEIGHT: 2}}}}}\n"
    )
    run = plan(read_study("one.yaml")).runs["a/s0"]
    again = load(run.file, run.settings())
    assert run.config.tree.LOSS.kd.TEMPERATURE == again.tree.LOSS.kd.TEMPERATURE == 4.0
    assert again.digest() == run.digest


def test_a_recipes_command_trains_the_recipe(here) -> None:
    (here / "one.yaml").write_text(
        "OVERRIDES: {DATASET: {TEST: 108}}\nROWS: {kd: {CONFIG: kd.yaml}}\n"
    )
    for run in plan(read_study("one.yaml")).runs.values():
        file, *words = after_option(run.command())
        assert load(file, words).digest() == run.digest, run.key


def test_the_cache_serves_those_that_it_can_and_the_others_are_told(planned) -> None:
    caches = {key: run.config.tree.TEACHER.CACHE for key, run in planned.runs.items()}
    assert caches["kd/s0"] == caches["kd/s1"] == "fp32"
    assert caches["feature/s0"] == caches["student/s0"] == "off"
    (note,) = planned.notes
    assert note.startswith("feature: its teacher answers live: ") and "feature maps" in note


def test_two_rows_that_are_one_are_refused(here) -> None:
    (here / "two.yaml").write_text(
        "ROWS: {a: {CONFIG: student.yaml}, b: {CONFIG: student.yaml, "
        "OVERRIDES: {CHECKPOINT: {KEEP: 3}}}}\n"
    )
    with pytest.raises(ConfigError, match=r"two.yaml: ROWS.b: with seed 0 it is .* a/s0 is"):
        plan(read_study("two.yaml"))


def test_picked_rows_bring_what_they_need(planned) -> None:
    assert [*planned.only(["kd"], [1]).runs] == ["teacher/s0", "student/s1", "kd/s1"]
    assert planned.only([], []).runs == planned.runs


def test_a_config_that_changed_under_a_run_is_named(planned, here) -> None:
    run = planned.runs["kd/s0"]
    run.folder.mkdir(parents=True)
    about = {"state": "done", "config": run.digest}
    (run.folder / "run.json").write_text(json.dumps(about))
    (run.folder / "config.yaml").write_text(run.config.dump())
    refuse_changed(planned)
    text = (here / "study.yaml").read_text()
    (here / "study.yaml").write_text(
        text.replace("LABEL: soft labels", "OVERRIDES: {LOSS: {kd: {TEMPERATURE: 8}}}")
    )
    with pytest.raises(ConfigError) as caught:
        refuse_changed(plan(read_study("study.yaml")))
    (run.folder / "run.json").write_text(json.dumps({**about, "trained": False}))
    refuse_changed(plan(read_study("study.yaml")))  # it never got to training: it is no run
    assert str(caught.value).startswith(
        "study.yaml: ROWS.kd: LOSS.kd.TEMPERATURE was 4.0 in runs/studies/study/kd/s0, and is 8.0"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "a: ["),
        ("config.yaml", "[]"),
        ("config.yaml", "a: !!python/name:os.system"),
        ("results.json", "{}"),
        ("run.json", '{"trained": true}'),
    ],
)
def test_a_broken_file_of_a_run_is_named(planned, name, text) -> None:
    run = planned.runs["kd/s0"]
    run.folder.mkdir(parents=True)
    (run.folder / "run.json").write_text('{"state": "done"}')
    (run.folder / name).write_text(text)
    with pytest.raises(ConfigError, match=f"kd/s0/{name}"):
        refuse_changed(planned)
        run.state()


def test_a_rows_folder_is_a_link_to_the_recipes(planned) -> None:
    run = planned.runs["student/s0"]
    for _ in range(2):
        settle_link(run)
        assert run.link is not None and run.folder.resolve() == run.link.resolve()
        assert run.folder.is_dir()


def test_a_row_that_was_trained_before_anyone_needed_it_stays(planned) -> None:
    run = planned.runs["student/s0"]
    run.folder.mkdir(parents=True)
    settle_link(run)
    assert run.link is not None and not run.folder.is_symlink()
    assert run.link.resolve() == run.folder.resolve()
    shutil.rmtree(run.folder)


@pytest.mark.parametrize("first", ["row", "recipe"])
@pytest.mark.parametrize("gone", ["row", "recipe"])
def test_a_row_whose_folder_was_removed_begins_anew(planned, first, gone) -> None:
    """Whichever of the two is the link: what is left leads nowhere."""
    run = planned.runs["student/s0"]
    assert run.link is not None
    if first == "row":
        run.folder.mkdir(parents=True)
    settle_link(run)
    left = {"row": run.link, "recipe": run.folder}[gone]
    removed = {"row": run.folder, "recipe": run.link}[gone]
    if removed.is_symlink():
        removed.unlink()
    else:
        shutil.rmtree(removed)
    again = plan(read_study("study.yaml")).runs["student/s0"]
    assert again.link == run.link
    settle_link(again)
    assert left.resolve() == removed.resolve() and left.is_dir()


def test_a_recipe_s_folder_is_no_link_that_leads_nowhere(planned, here) -> None:
    """Nor is a run without a study stopped by what a removed study left in runs/recipes."""
    run = planned.runs["student/s0"]
    run.folder.mkdir(parents=True)
    settle_link(run)
    shutil.rmtree(here / "runs/studies")
    assert recipe_folder(run.config) == run.link and not run.link.is_symlink()
