"""A search: on validation only, pruned by it, and shared; most tests train in their heads."""

import csv
import json
import math
import signal
from pathlib import Path

import optuna
import pytest
from matplotlib.image import imread

from kdframe.config import ConfigError, load
from kdframe.signals import Stopped
from kdframe.study import searching
from kdframe.study.alone import StorageFault
from kdframe.study.process import Outcome
from kdframe.study.searching import Searching
from kdframe.study.space import Range, Space, read_space
from kdframe.study.written import read_study

EPOCHS = 4
SEARCH = """
OVERRIDES: {{SOLVER: {{EPOCHS: {epochs}}}}}
ROWS: {{kd: {{CONFIG: kd.yaml, OVERRIDES: {{LOSS: {{kd: {{TEMPERATURE: 3}}}}}}}}}}
SEARCH:
  ROW: kd
  SPACE:
    SOLVER: {{LR: {{LOW: 1e-3, HIGH: 1, LOG: true}}}}
    LOSS: {{kd: {{WEIGHT: {{LOW: 0, HIGH: 4, STEP: 1}}}}}}
  {more}
"""


@pytest.fixture
def search(here, monkeypatch):
    """Makes a Searching whose trials answer at once: best at LR 0.1, flat in the weight."""

    def attend(planned, *, asked, told, test, debug):
        assert not test and not planned.config.tree.BASELINE
        lr = planned.config.tree.SOLVER.LR
        top1 = 90 - 10 * abs(math.log10(lr) + 1)
        for epoch in range(1, EPOCHS + 1):
            event = {"step": epoch, "steps": EPOCHS, "epoch": epoch, "epochs": EPOCHS}
            metrics = {"val/top1": top1 * epoch / EPOCHS, "val/nll": 100 - top1}
            if not told({**event, "after": epoch, "metrics": metrics}):
                return Outcome(143, "stopped")
        if attend.trouble:
            if attend.trouble[0] == 6:  # it was killed in training
                planned.folder.mkdir(parents=True, exist_ok=True)
                (planned.folder / "run.json").write_text('{"state": "running"}')
            return Outcome(attend.trouble.pop(0), "said why")
        planned.folder.mkdir(parents=True, exist_ok=True)
        found = {"val": {"top1": top1, "nll": 100 - top1}, "config": planned.digest}
        (planned.folder / "results.json").write_text(json.dumps(found))
        return Outcome(0, "")

    def make(more: str, *trouble: int) -> Searching:
        attend.trouble = [*trouble]
        (here / "s.yaml").write_text(SEARCH.format(epochs=EPOCHS, more=more))
        return Searching(read_study("s.yaml"), "", 1, 3)

    monkeypatch.setattr(searching, "attend", attend)
    return make


def work(search: Searching) -> list[dict[str, str]]:
    """Its trials as trials.csv says them."""
    search.work(lambda: 0, debug=False)
    search.report()
    with (search.folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_finds_the_best_and_writes_a_config_that_loads(search) -> None:
    trials = work(search("TRIALS: 12\n  PRUNER: none"))
    assert [trial["state"] for trial in trials] == ["complete"] * 12
    best = max(trials, key=lambda trial: float(trial["value"]))
    config = load(Path("runs/studies/s/search/best.yaml"))
    assert float(best["SOLVER.LR"]) == config.tree.SOLVER.LR
    assert float(best["LOSS.kd.WEIGHT"]) == config.tree.LOSS.kd.WEIGHT
    assert (config.tree.LOSS.kd.TEMPERATURE, config.tree.SOLVER.EPOCHS) == (3.0, EPOCHS)
    assert config.recipes["TEACHER.CONFIG"].path.name == "teacher.yaml"
    assert config.warnings == ()


def test_paths_that_are_sought_are_of_their_file_and_the_best_loads_anywhere(
    search, here, tmp_path_factory, monkeypatch
) -> None:
    """SPACE is of a study that this one stands on, in another folder; OUTPUT_DIR is outside."""
    (here / "big.yaml").write_text("_BASE_: teacher.yaml\nSTUDENT: {WIDTH: 24}\n")
    (here / "base").mkdir()
    (here / "base/common.yaml").write_text(
        "SEARCH: {ROW: kd, SAMPLER: grid, SPACE: {TEACHER: {CONFIG: {CHOICES: [../teacher.yaml, "
        "../big.yaml]}}, SOLVER: {LR: {CHOICES: [0.1, 0.5]}}}}\n"
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    text = "_BASE_: base/common.yaml\nROWS: {{kd: {{CONFIG: kd.yaml}}}}\n# {more}"
    monkeypatch.setitem(globals(), "SEARCH", f"OUTPUT_DIR: {elsewhere}\n{text}")
    found = search("")
    trials = work(found)
    assert {trial["TEACHER.CONFIG"] for trial in trials} == {"../teacher.yaml", "../big.yaml"}
    best = load(elsewhere / "search/best.yaml")
    digests = {
        found.planned(0, {"TEACHER.CONFIG": teacher, "SOLVER.LR": 0.1}).digest
        for teacher in ("../teacher.yaml", "../big.yaml")
    }
    assert len(digests) == 2 and best.digest() in digests


def test_a_picture_shows_what_mattered(search) -> None:
    work(search("TRIALS: 12\n  PRUNER: none"))
    picture = imread("runs/studies/s/search/importance.png")
    assert picture.shape[1] > 2 * picture.shape[0] and picture[..., :3].min() < 0.5


def test_the_same_file_finds_the_same_in_parts_or_in_one_go(search, here) -> None:
    """A signal stops it in the third trial; the same command goes on with that one."""
    whole = work(search("TRIALS: 6\n  SAMPLER: random"))
    (here / "runs/studies/s").rename(here / "first")
    parts = search("TRIALS: 6\n  SAMPLER: random")
    asked = iter([0, 0, 15])
    with pytest.raises(Stopped):
        parts.work(lambda: next(asked), debug=False)
    assert work(search("TRIALS: 6\n  SAMPLER: random")) == whole


def test_a_trial_that_was_broken_off_goes_on_in_its_folder_with_its_settings(search) -> None:
    broken = search("TRIALS: 3", 130)
    with pytest.raises(Stopped):
        broken.work(lambda: 0, debug=False)
    before = dict(broken.study.trials[0].params)
    trials = work(search("TRIALS: 3"))
    assert [trial["trial"] for trial in trials] == ["t0", "t2", "t3"]
    assert {trial["state"] for trial in trials} == {"complete"}
    again = next(trial for trial in trials if trial["trial"] == "t0")
    assert float(again["SOLVER.LR"]) == before["SOLVER.LR"]


def test_a_trial_that_fails_is_told_and_the_others_go_on(search) -> None:
    trials = work(search("TRIALS: 3", 3))
    assert [trial["state"] for trial in trials] == ["fail", "complete", "complete"]
    assert trials[0]["failed"] == "said why"


def test_a_trial_that_loses_its_process_goes_on_but_not_for_ever(search) -> None:
    trials = work(search("TRIALS: 2", 6, 6))
    assert [trial["state"] for trial in trials] == ["complete", "complete"]
    trials = work(search("TRIALS: 3", 6, 6, 6))
    assert [trial["state"] for trial in trials] == ["complete", "complete", "fail"]


def test_a_full_disk_ends_this_worker_and_fails_no_trial(search) -> None:
    with pytest.raises(StorageFault, match="said why"):
        work(search("TRIALS: 2", 4))
    assert [trial["state"] for trial in work(search("TRIALS: 2"))] == ["complete", "complete"]


def test_a_request_to_save_between_two_trials_stops_nothing(search) -> None:
    quiet = search("TRIALS: 2")
    quiet.work(lambda: signal.SIGUSR1, debug=False)
    assert len(quiet.study.trials) == 2


def test_settings_that_contradict_each_other_fail_their_trial_alone(search, monkeypatch) -> None:
    several = "START: {{CHOICES: [0, 2]}}, STOP: {{CHOICES: [1, 3]}}"
    text = SEARCH.replace("WEIGHT: {{LOW: 0, HIGH: 4, STEP: 1}}", several)
    text = text.replace("{{LOW: 1e-3, HIGH: 1, LOG: true}}", "{{CHOICES: [0.1, 0.01]}}")
    monkeypatch.setitem(globals(), "SEARCH", text)
    trials = work(search("SAMPLER: grid\n  PRUNER: none"))
    wrong = [trial for trial in trials if trial["state"] == "fail"]
    assert len(trials) == 8 and len(wrong) == 2
    assert all(trial["failed"].startswith("s.yaml: SEARCH.SPACE: LOSS.kd.ST") for trial in wrong)


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_pruner_stops_trials_that_are_worse_than_others_were(search, pruner) -> None:
    trials = work(search(f"TRIALS: 16\n  SAMPLER: random\n  PRUNER: {pruner}"))
    pruned = [float(trial["value"]) for trial in trials if trial["state"] == "pruned"]
    finished = [float(trial["value"]) for trial in trials if trial["state"] == "complete"]
    assert len(pruned) + len(finished) == 16 and 0 < len(pruned) < 16
    assert max(finished) > max(pruned)


def test_a_metric_that_falls_is_sought_downwards(search) -> None:
    trials = work(search("TRIALS: 8\n  PRUNER: none\n  METRIC: val/nll"))
    best = min(trials, key=lambda trial: float(trial["value"]))
    assert float(best["SOLVER.LR"]) == load(Path("runs/studies/s/search/best.yaml")).tree.SOLVER.LR


def test_a_grid_goes_through_every_point_once(search, monkeypatch) -> None:
    text = SEARCH.replace("{{LOW: 1e-3, HIGH: 1, LOG: true}}", "{{CHOICES: [0.1, 0.01]}}")
    monkeypatch.setitem(globals(), "SEARCH", text)
    enqueue = optuna.Study.enqueue_trial

    def race(*words, skip_if_exists=False, **named):  # another worker adds the same at this moment
        enqueue(*words, **named)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", race)
    search("SAMPLER: grid\n  PRUNER: none")
    trials = work(search("SAMPLER: grid\n  PRUNER: none"))
    points = {(trial["SOLVER.LR"], trial["LOSS.kd.WEIGHT"]) for trial in trials}
    assert len(trials) == len(points) == 10


def test_trials_of_another_space_are_not_compared(search) -> None:
    work(search("TRIALS: 2"))
    with pytest.raises(ConfigError, match="METRIC changed under the trials in runs/studies/s"):
        search("TRIALS: 2\n  METRIC: val/top5")


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("SOLVER: {{LRR: {{LOW: 1, HIGH: 2}}}}", "there is no SOLVER.LRR. Did you mean SOLVER.LR?"),
        ("SOLVER: {{LR: {{LOW: -1, HIGH: 2}}}}", "SOLVER.LR takes a finite number above 0, not -1"),
        ("LOSS: {{kd: {{HEAT: {{LOW: 1, HIGH: 2}}}}}}", "there is no LOSS.kd.HEAT"),
    ],
)
def test_a_range_that_no_config_takes_is_answered_first(search, monkeypatch, wrong, answer) -> None:
    text = SEARCH.replace("SOLVER: {{LR: {{LOW: 1e-3, HIGH: 1, LOG: true}}}}", wrong)
    if wrong.startswith("LOSS"):
        text = text.replace("\n    LOSS: {{kd: {{WEIGHT: {{LOW: 0, HIGH: 4, STEP: 1}}}}}}", "")
    monkeypatch.setitem(globals(), "SEARCH", text)
    with pytest.raises(ConfigError) as caught:
        search("TRIALS: 2")
    assert str(caught.value).startswith("s.yaml: SEARCH.SPACE: ") and answer in str(caught.value)


def test_ranges_are_whole_where_their_ends_are() -> None:
    given = {"A": {"LOW": 1, "HIGH": 4}, "B": {"LOW": 1.0, "HIGH": 2, "STEP": 0.5}}
    assert read_space(given, "x.yaml") == Space(
        {"A": Range(low=1, high=4, whole=True), "B": Range(low=1.0, high=2, step=0.5)}
    )
    assert len([*Space({"A": Range(low=1, high=4, whole=True)}).grid()]) == 4


def test_the_command_searches_without_a_look_at_the_test_split(there, run_study) -> None:
    (there / "s.yaml").write_text(
        "ROWS: {student: {CONFIG: student.yaml}}\n"
        "SEARCH: {ROW: student, TRIALS: 2, SPACE: {SOLVER: {LR: {LOW: 0.01, HIGH: 0.1}}}}\n"
    )
    done = run_study(there, "--search", study="s.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "best: search/t" in done.stdout
    for results in (there / "runs/studies/s/search").glob("t*/results.json"):
        found = json.loads(results.read_text())
        assert "val" in found and not {"test", "test_best"} & found.keys()
