"""The rows' figures: differences by seed, references once, costs of what is deployed."""

import pytest
import torch

from kdframe.analysis import analyse_all
from kdframe.reports import page, runs
from kdframe.reports.comparison import lines
from kdframe.reports.panels import gains, learning_curves, panels


@pytest.fixture
def study(make_study, tmp_path):
    return make_study(tmp_path / "study", ["alpha", "beta"], 2, ["ant", "bee"])


def test_without_a_baseline_row_each_run_has_its_own(study) -> None:
    """alpha has 60 and 61, its students alone 50 and 51."""
    found = {line.row.name: line for line in lines(study)}
    assert found["alpha"].difference.mean == pytest.approx(10.0)
    assert found["alpha"].difference.better == found["alpha"].difference.n == 2
    assert found["baseline"].figures["top1"].mean == pytest.approx(50.5)


def test_a_baseline_row_is_what_others_are_compared_with(study) -> None:
    for row in study.rows:
        row.baseline = "alpha"
    found = {line.row.name: line for line in lines(study)}
    assert found["alpha"].difference is None
    assert found["beta"].difference.mean == pytest.approx(3.0)


def test_a_lead_that_is_none_is_said(study) -> None:
    """The seeds are nearly as far over their baselines; then one of two far more."""
    study.rows[1].runs[1].results["test"]["top1"] += 0.1
    assert "not told apart" not in page.html(study)
    study.rows[1].runs[1].results["test"]["top1"] = 88.0
    assert "points over the student alone (not told apart)" in page.html(study)


def test_the_lead_is_held_against_its_own_teacher(study) -> None:
    """beta's 63 and 64 have a teacher of 70, alpha's is the study's first."""
    for run in study.rows[1].runs:
        run.results["teacher"] = {**run.results["teacher"], "top1": 70.0}
        run.costs = {**run.costs, "teacher": {"parameters": 3000, "multiply_adds": 1}}
    found = lines(study)
    assert "beta is ahead: 63.50 % of the test images" in page.lead(study, found)
    assert page.lead(study, found).endswith(" and \u22126.50 to its teacher.")
    (smaller,) = (card for card in page.cards(study, found) if card["name"] == "smaller")
    assert (smaller["value"], smaller["note"]) == ("3", "1000 parameters of its teacher's 3000")


def test_a_teacher_is_there_once(study) -> None:
    teachers = [line for line in lines(study) if line.row.kind == "teacher"]
    assert [(t.row.label, t.figures["top1"].mean, t.parameters) for t in teachers] == [
        ("teacher", 90.0, 10_000)
    ]


def test_a_teacher_that_is_a_row_is_no_second_line(study, write_run, tmp_path) -> None:
    write_run(tmp_path / "study/teacher/s0", 0, 90.0)
    again = runs.read(tmp_path / "study")
    assert [line.row.kind for line in lines(again)].count("teacher") == 0


def test_a_network_that_only_scores_as_a_row_does_keeps_its_line(study) -> None:
    """And of a run alone, whatever it scores: its teacher and baseline are no rows."""
    run = study.rows[0].runs[0]
    for who in ("teacher", "baseline"):
        run.results[who] = {**run.results["test"], "nll": 0.9}
    study.rows[0].runs.pop()
    found = [line.row.label for line in lines(study)]
    assert found == ["teacher of alpha", "teacher of beta", "student alone of alpha",
                     "student alone of beta", "alpha", "beta"]  # fmt: skip
    run.results |= dict.fromkeys(("teacher", "baseline"), run.results["test"])
    study.rows.pop()
    assert [line.row.label for line in lines(study)] == ["alpha"]
    study.single = True
    assert [line.row.label for line in lines(study)] == ["teacher", "student alone", "alpha"]


def test_a_row_whose_teacher_differs_by_seed_has_one_line_of_it(study) -> None:
    """As a partner that learns: 70 and 71; alpha's is the same for both seeds."""
    for run in study.rows[1].runs:
        run.results["teacher"] = {**run.results["teacher"], "top1": 70.0 + run.seed}
    teachers = {line.row.label: line.figures["top1"] for line in lines(study)[:2]}
    assert {label: (top1.mean, top1.n) for label, top1 in teachers.items()} == {
        "teacher of alpha": (90.0, 1), "teacher of beta": (70.5, 2),
    }  # fmt: skip


def test_a_trial_that_read_no_test_split_has_no_figures_of_it(study) -> None:
    for row in study.rows:
        row.baseline = "alpha"
    for run in study.rows[1].runs:
        run.results = {"val": {"top1": 60.0}, "seconds": 3.0}
    beta = lines(study)[-1]
    assert beta.figures.keys() & {"top1", "nll"} == set() and beta.difference is None
    assert "alpha: 60.50 %" in page.lead(study, lines(study)).replace(" is ahead", "")
    study.rows.pop(0)
    assert "No run has read the test split." in page.html(study)
    said = list(analyse_all(study, torch.device("cpu"), 0))
    assert len(said) == 2 and all("not analysed: a search's trial never" in line for line in said)


def test_networks_of_a_size_have_one_latency(study) -> None:
    study.rows[1].runs[0].analysis["latency"]["student"] = 0.004
    found = {line.row.name: line.latency for line in lines(study)}
    assert found["alpha"] == found["beta"] == found["baseline"] == 0.002
    assert found["teacher"] == 0.01


def test_gains_are_those_of_a_class_over_the_same_seeds(study) -> None:
    row = study.rows[0]
    for run in row.runs:
        run.analysis["networks"]["student"]["right"] = [8, 5]
        run.analysis["networks"]["baseline"]["right"] = [5, 5 + run.seed]
    assert gains(row.runs, None) == [("ant", pytest.approx(30.0)), ("bee", pytest.approx(-5.0))]


def test_a_calibration_error_is_the_mean_of_the_seeds(study) -> None:
    """One too sure by 10 points, the other too modest: of all their images at once it were 0."""
    for run, right in zip(study.rows[0].runs, (80.0, 100.0), strict=True):
        network = run.analysis["networks"]["student"]
        diagram = {"count": [100.0], "confidence": [90.0], "accuracy": [right]}
        network |= {"ece": 0.1, "reliability": diagram}
    panel = panels(study)[0]
    assert panel.diagrams["student"].ece == 0.0 and panel.ece["student"] == pytest.approx(0.1)
    assert "<b>ECE 0.100</b>" in page.html(study)


def test_curves_are_means_over_the_seeds_that_have_the_epoch(study) -> None:
    """beta: 63 and 64 after the last epoch; one seed has one epoch less."""
    row = study.rows[1]
    curve = learning_curves(study.rows)["validation top-1, %"][1]
    assert curve.y[-1] == pytest.approx(63.5) and curve.spread[-1] == pytest.approx(0.5**0.5)
    row.runs[0].epochs.pop()
    assert learning_curves(study.rows)["validation top-1, %"][1].x == [1, 2, 3, 4]


def test_runs_of_other_classes_are_not_averaged(study) -> None:
    study.rows[0].runs[1].analysis["classes"] = ["one", "two", "three"]
    assert panels(study)[0].classes == ["ant", "bee"]
