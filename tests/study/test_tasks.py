"""A study from the outside: what it trains, prints and leaves, how it stops and goes on."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

HOME = Path("runs/studies/study")
LAST_WORDS = "error: "


@pytest.fixture(scope="module")
def done(where, run_study) -> str:
    """The console of a study that was trained to its end."""
    ran = run_study(where)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def table(where: Path) -> dict:
    found: dict = json.loads((where / HOME / "study.json").read_text())
    return found


def test_it_ends_with_a_table_on_the_console_and_in_three_formats(where, done) -> None:
    rows = table(where)["rows"]
    assert [*rows] == ["teacher", "student", "kd", "feature"]
    student, kd = rows["student"], rows["kd"]
    figures = [[run["results"]["test"]["top1"] for run in row["runs"]] for row in (student, kd)]
    assert student["top1"]["mean"] == pytest.approx(sum(figures[0]) / 2)
    assert kd["difference"]["mean"] == pytest.approx((sum(figures[1]) - sum(figures[0])) / 2)
    assert kd["difference"]["n"] == 2 and kd["verdict"]
    assert rows["feature"]["verdict"].endswith("with one seed, which shows nothing")
    assert student["parameters"] == 5_656 and student["multiply_adds"] == 227_648
    assert " soft labels " in done and f"soft labels: {kd['verdict']}" in done
    page = (where / HOME / "study.md").read_text()
    with (where / HOME / "study.csv").open() as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert lines["soft labels"]["verdict"] == kd["verdict"] and kd["verdict"] in page
    for run in kd["runs"]:
        assert run["config"][:12] in page and " ".join(run["command"]) in page


def test_every_run_is_an_ordinary_run_that_says_how_it_is_made_again(where, done) -> None:
    for run in table(where)["rows"]["kd"]["runs"]:
        about = json.loads((where / run["folder"] / "run.json").read_text())
        assert about["state"] == "done" and about["command"] == run["command"]
        assert about["config"] == run["config"] == run["results"]["config"]


def test_a_teacher_is_trained_once_and_answers_once(where, done) -> None:
    """Its row is the recipe that the others find; its answers are kept for the seed's next row."""
    recipes = sorted(p.name.partition("-")[0] for p in (where / "runs/recipes").iterdir())
    assert recipes == ["student", "student", "teacher"]
    assert (where / HOME / "teacher/s0").is_symlink()
    assert "feature: its teacher answers live" in done
    assert len(list((where / "runs/teacher_cache").iterdir())) == 2  # kd's two seeds


def test_the_same_command_trains_nothing_twice(where, done, run_study) -> None:
    before = {p: p.stat().st_mtime_ns for p in (where / HOME).rglob("results.json")}
    again = run_study(where)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": done before, in ") == 6 and " begins" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (where / HOME).rglob("results.json")} == before


def test_the_table_alone(where, done, run_study) -> None:
    only = run_study(where, "--report-only")
    assert only.returncode == 0, only.stderr
    assert only.stdout[only.stdout.index("\n row ") :] in done


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--rows", "kdd"], "command line: --rows: there is no row 'kdd'. Did you mean kd?"),
        (["--seeds", "0,7"], "command line: --seeds: no row has the seed 7."),
        (["--seeds", "x"], "command line: --seeds takes whole numbers with commas, not 'x'."),
        (["--worker"], "command line: --worker: it takes its runs from a --storage."),
        (["--search"], "study.yaml: SEARCH: there is none"),
        (["--heartbeat", "9", "--grace", "9"], "--heartbeat is from 1, and --grace is above it"),
        (["--heartbeat", "9", "--grace", "0"], "--heartbeat is from 1, and --grace is above it"),
        (["--rows", "teacher", "--seeds", "1"], "--seeds: none of teacher has one of [1]."),
        (["--rows", "kd", "--search"], "command line: --rows says nothing with --search."),
        (["--seeds", "0", "--report-only"], "--seeds says nothing with --report-only."),
        (["--retry-failed", "--dry-run"], "--retry-failed says nothing with --dry-run."),
        (["--storage", "nowhere"], "command line: --storage takes sqlite:///FILE or postgresql"),
        (["--storage", "sqlite:///no/such/x.db"], "--storage: sqlite:///no/such/x.db can't be"),
        (
            ["--storage", "postgresql://me:secret@127.0.0.1:1/x"],
            "--storage: postgresql://me:***@127.0.0.1:1/x can't be reached: ",
        ),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(where, done, run_study, words, answer) -> None:
    before = (where / HOME / "study.json").read_bytes()
    wrong = run_study(where, *words)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
    assert wrong.stderr.startswith(LAST_WORDS) and answer in wrong.stderr
    assert (where / HOME / "study.json").read_bytes() == before


def test_a_reader_that_goes_away_is_no_error(where, done, start_study) -> None:
    """As with ``--dry-run | head -1``."""
    process = start_study(where, "--dry-run", study="study.yaml", stderr=subprocess.PIPE)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (128 + signal.SIGPIPE, "")


def test_a_folder_that_cannot_be_made_is_named(there, run_study) -> None:
    (there / "afile").write_text("")
    (there / "one.yaml").write_text("OUTPUT_DIR: afile/x\nROWS: {a: {CONFIG: student.yaml}}\n")
    wrong = run_study(there, study="one.yaml")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: OUTPUT_DIR: afile/x can't be made: ")


def test_two_studies_take_two_folders(where, done, run_study) -> None:
    text = (where / "study.yaml").read_text()
    (where / "other.yaml").write_text(f"{text}\nOUTPUT_DIR: {HOME}\n")
    wrong = run_study(where, study="other.yaml")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        f"error: other.yaml: OUTPUT_DIR: {HOME} holds the study study of study.yaml; two studies "
        "take two folders.\n"
    )


def test_a_changed_config_is_refused_and_nothing_is_lost(where, done, run_study) -> None:
    text = (where / "study.yaml").read_text()
    try:
        (where / "study.yaml").write_text(text + "\nOVERRIDES: {SOLVER: {LR: 0.02}}\n")
        for words in ([], ["--report-only"]):
            wrong = run_study(where, *words)
            assert wrong.returncode == 2
            assert "ROWS.teacher: SOLVER.LR was 0.01 in " in wrong.stderr
    finally:
        (where / "study.yaml").write_text(text)
    assert run_study(where, "--report-only").returncode == 0


def test_a_folder_without_a_run_has_no_table(there, run_study) -> None:
    wrong = run_study(there, "--report-only")
    assert wrong.returncode == 2
    assert wrong.stderr == f"error: {HOME} holds no finished run of study.yaml to report on.\n"
    assert not (there / "runs").exists()


LONG = """
ROWS:
  long: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {EPOCHS: 400}}}
  wild: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {OPTIMIZER: sgd, LR: 1e30, WEIGHT_DECAY: 0}}}
  good: {CONFIG: student.yaml}
"""


def test_a_signal_stops_with_a_checkpoint_and_the_same_command_goes_on(there, start_study) -> None:
    """The run in hand is told; the one that failed before isn't tried again."""
    (there / "long.yaml").write_text(LONG)
    home = there / "runs/studies/long"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start_study(there, study="long.yaml")
        wait_for(process, home / "long/s0/metrics.jsonl", code)
        process.send_signal(number)
        out, _ = process.communicate(timeout=600)
        assert process.returncode == code, out
        about = json.loads((home / "long/s0/run.json").read_text())
        assert about["state"] == "stopped" and list((home / "long/s0/checkpoints").iterdir())
    assert "resumed at step" in (home / "long/s0/log.txt").read_text()


def wait_for(process: subprocess.Popen[str], path: Path, turn: int) -> None:
    """Until a run is under way: its file grows."""
    size = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size <= size):
        time.sleep(0.05)


def test_a_run_that_failed_is_told_and_not_tried_again_unless_asked(there, run_study) -> None:
    (there / "long.yaml").write_text(LONG)
    first = run_study(there, "--rows", "wild,good", study="long.yaml")
    assert first.returncode == 3
    assert "error: 1 of 2 runs failed: wild/s0 (diverged at step " in first.stderr
    assert "good/s0: done" in first.stdout and "wild/s0: no figures" in first.stdout
    again = run_study(there, "--rows", "wild", study="long.yaml")
    assert "wild/s0: failed before (diverged at step " in again.stdout
    assert " begins" not in again.stdout and "tried again" not in again.stdout
    asked = run_study(there, "--rows", "wild", "--retry-failed", study="long.yaml")
    assert "wild/s0 is tried again" in asked.stdout and asked.returncode == 3
