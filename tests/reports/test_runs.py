"""Runs as they lie in their folders: one, a study's, and folders that hold none."""

import json

import pytest

from kdframe.reports import page
from kdframe.reports.runs import NoRun, read


def test_a_run_alone_is_a_study_of_one_row(write_run, tmp_path) -> None:
    write_run(tmp_path / "kd/20260101-s3", 3, 60.0)
    study = read(tmp_path / "kd/20260101-s3")
    assert study.single and study.name == "kd/20260101-s3"
    (run,) = study.rows[0].runs
    assert run.done and run.seed == 3
    assert [row["epoch"] for row in run.epochs] == [1, 2, 3, 4, 5]


def test_rows_are_folders_and_seeds_below_them(write_run, tmp_path) -> None:
    for row, seed in (("b", 10), ("b", 2), ("a", 0), ("search", 0)):
        write_run(tmp_path / row / f"s{seed}", seed, 60.0)
    (tmp_path / "report").mkdir()
    study = read(tmp_path)
    assert [row.name for row in study.rows] == ["a", "b"]
    assert [run.seed for run in study.rows[1].runs] == [2, 10]


def test_study_json_says_order_labels_and_baselines(write_run, tmp_path) -> None:
    for row in ("a", "b", "z"):
        write_run(tmp_path / row / "s0", 0, 60.0)
    rows = {"b": {"label": "Bee", "baseline": "a"}, "a": {"label": "Ay"}, "new": {"label": "New"}}
    (tmp_path / "study.json").write_text(json.dumps({"name": "mine", "rows": rows}))
    study = read(tmp_path)
    assert study.name == "mine"
    found = [(r.name, r.label, r.baseline, len(r.runs)) for r in study.rows]
    assert found == [("b", "Bee", "a", 1), ("a", "Ay", "", 1), ("new", "New", "", 0),
                     ("z", "z", "", 1)]  # fmt: skip


def test_a_broken_file_is_a_state_of_its_run(write_run, tmp_path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "a" / f"s{seed}", seed, 60.0)
    (tmp_path / "a/s1/results.json").write_text("{")
    states = {run.folder.name: run.state for run in read(tmp_path).rows[0].runs}
    assert states["s0"] == "done" and len(states) == 2
    assert states["s1"].startswith("unreadable: results.json is broken: Expecting property name")


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("run.json", '{"seed": "x"}', "seed isn't what a run writes."),
        ("run.json", '{"command": 3}', "command isn't what a run writes."),
        ("run.json", "[" * 100_000, "maximum recursion depth exceeded"),
        ("metrics.jsonl", "3\n", "a line is no mapping."),
        ("metrics.jsonl", '{"epoch": "1", "train/loss": "x"}\n', "an epoch's line isn't what"),
        ("metrics.jsonl", '{"train/loss": 3}\n', "an epoch's line isn't what a run writes."),
        ("metrics.jsonl", "\xff\n", "'utf-8' codec can't decode"),
        ("complexity.json", '{"student": 3}', "student isn't what a run writes."),
        ("complexity.json", '{"teacher": {"parameters": 3}}', "teacher isn't what a run writes."),
        ("results.json", '{"config": "ab", "test": 3}', "test isn't what a run writes."),
        ("results.json", '{"config": "ab", "teacher/2": {}}', "teacher/2 isn't what a run writes."),
        (
            "results.json",
            '{"config": "ab", "agreement": "x"}',
            "agreement isn't what",
        ),
        ("results.json", '{"seed": 0}', "it has no config."),
    ],
)
def test_what_is_no_run_s_is_told_on_a_page(write_run, tmp_path, name, text, what) -> None:
    write_run(tmp_path / "run", 0, 60.0)
    (tmp_path / "run" / name).write_text(text, "latin-1")
    study = read(tmp_path / "run")
    assert study.rows[0].runs[0].state.startswith(f"unreadable: {name} is broken: {what}")
    assert f"{name} is broken" in page.html(study)


def test_a_number_of_an_epoch_that_was_not_finite_is_left_out(write_run, tmp_path) -> None:
    write_run(tmp_path / "run", 0, 60.0, epochs=1)
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "train/loss": null, "train/kd": 2.0}\n')
    (run,) = read(tmp_path / "run").rows[0].runs
    assert run.epochs[-1] == {"epoch": 2, "train/kd": 2.0}
    assert page.html(read(tmp_path / "run"))


def test_a_run_under_two_names_is_one_seed(write_run, tmp_path) -> None:
    """As ``latest`` beside dated folders, or a row that is a recipe as well."""
    write_run(tmp_path / "recipes/teacher-ab", 0, 60.0)
    write_run(tmp_path / "runs/kd/20260102-s1", 1, 60.0)
    (tmp_path / "runs/kd/latest").symlink_to("20260102-s1")
    (tmp_path / "runs/kd/s0").symlink_to("../../recipes/teacher-ab")
    (row,) = read(tmp_path / "runs").rows
    assert [(run.folder.name, run.seed) for run in row.runs] == [("s0", 0), ("20260102-s1", 1)]


def test_of_several_runs_with_a_seed_the_newest_that_is_done_counts(write_run, tmp_path) -> None:
    for name, day, state in (("a", "02", "done"), ("b", "03", "done"), ("c", "04", "running")):
        write_run(tmp_path / "kd" / name, 0, 60.0, start=f"2026-01-{day}", state=state)
    (tmp_path / "kd/c/results.json").unlink()
    (run,) = read(tmp_path).rows[0].runs
    assert run.folder.name == "b" and run.done
    said = [f"{tmp_path}/kd/{name} has this seed too, and isn't counted." for name in "ac"]
    assert sorted(run.notes) == said


def test_runs_of_a_row_that_differ_in_more_than_their_seed_are_told(write_run, tmp_path) -> None:
    for seed, epochs in ((0, 30), (1, 30), (2, 40)):
        write_run(tmp_path / f"kd/s{seed}", seed, 60.0)
        config = {"SEED": seed, "OUTPUT_DIR": f"s{seed}", "SOLVER": {"EPOCHS": epochs}}
        (tmp_path / f"kd/s{seed}/config.yaml").write_text(json.dumps(config))
    notes = [run.notes for run in read(tmp_path).rows[0].runs]
    assert notes == [[], [], [f"its config isn't that of {tmp_path}/kd/s0: SOLVER.EPOCHS."]]


@pytest.mark.parametrize("text", ["[1]", "a: [", "\xff", "a: !!python/name:os.system"])
def test_a_broken_config_is_told_beside_its_run(write_run, tmp_path, text) -> None:
    for seed, config in ((0, "SEED: 0"), (1, text)):
        write_run(tmp_path / f"kd/s{seed}", seed, 60.0)
        (tmp_path / f"kd/s{seed}/config.yaml").write_text(config, "latin-1")
    (note,) = read(tmp_path).rows[0].runs[1].notes
    assert f"{tmp_path}/kd/s1/config.yaml: " in note


def test_a_half_written_last_line_is_left_out(write_run, tmp_path) -> None:
    write_run(tmp_path / "run", 0, 60.0)
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 6, "train/lo')
    assert read(tmp_path / "run").rows[0].runs[0].epochs[-1]["epoch"] == 5


def test_a_folder_without_a_run_is_refused(tmp_path) -> None:
    with pytest.raises(NoRun, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(NoRun, match="no run in it"):
        read(tmp_path)
    for text in ("[]", '{"rows": 3}', '{"rows": {"a": 3}}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(NoRun, match=r"study\.json is broken: (it holds no mapping|rows isn't)"):
            read(tmp_path)
