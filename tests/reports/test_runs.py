"""Runs as they lie in their folders: one, a study's, and folders that hold none."""

import json

import pytest

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
    assert states == {"s0": "done", "s1": "unreadable: results.json is broken"}


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
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(NoRun, match=r"study\.json holds no mapping"):
        read(tmp_path)
