"""Workers that share runs by a storage: none is lost and none is done twice, whoever dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdframe.study import sharing
from kdframe.study.alone import RunsFailed, StorageFault
from kdframe.study.planning import Planned, plan
from kdframe.study.process import Outcome
from kdframe.study.sharing import Sharing
from kdframe.study.tasks import Work
from kdframe.study.written import read_study

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
WORK = """
ROWS:
  long: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {EPOCHS: 60}, CHECKPOINT: {MINUTES: 0}}}
  a: {CONFIG: student.yaml}
  b: {CONFIG: student.yaml, OVERRIDES: {SOLVER: {LR: 0.02}}}
BASELINE: a
"""
BEATS = ("--heartbeat", "1", "--grace", "8")


@pytest.fixture
def sqlite(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A server of the test's own; it doesn't run as root, so its data are elsewhere."""
    if not BINARIES:
        pytest.skip("no PostgreSQL server is installed in /usr/lib/postgresql (apt: postgresql)")
    as_other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_other and not shutil.which("runuser"):
        pytest.skip("PostgreSQL doesn't run as root, and there is no runuser")
    home = Path(tempfile.mkdtemp(prefix="kdframe-postgresql-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if as_other:
        shutil.chown(home, "postgres")
    data = home / "data"

    def call(program: str, *words: str) -> None:
        line = [*as_other, str(BINARIES[-1] / program), *words]
        subprocess.run(line, check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=300)

    call("initdb", "-D", str(data), "-U", "kdframe", "--auth=trust", "--no-sync")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    call(
        "pg_ctl",
        "-D",
        str(data),
        "-w",
        "-t",
        "120",
        "-l",
        str(home / "log"),
        "-o",
        options,
        "start",
    )
    try:
        yield f"postgresql://kdframe@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_worker_that_is_killed_gives_its_run_back(there, request, start_study, backend) -> None:
    """With PostgreSQL the run's own process is killed as well, as when a machine goes down."""
    url = request.getfixturevalue(backend)
    (there / "pair.yaml").write_text(WORK)
    words = ("--worker", "--storage", url, *BEATS)
    home = there / "runs/studies/pair"
    first = start_study(there, *words, study="pair.yaml")
    saved = home / "long/s0/checkpoints"
    while first.poll() is None and not list(saved.glob("step_*.json")):
        time.sleep(0.05)
    others = [start_study(there, *words, study="pair.yaml") for _ in range(2)]
    run = int((home / "long/s0/.lock").read_text().split()[1])
    first.kill()
    if backend == "postgresql":
        os.kill(run, signal.SIGKILL)
    first.communicate()
    said = [other.communicate(timeout=900)[0] for other in others]
    assert [other.returncode for other in others] == [0, 0], said
    assert sum(out.count("long/s0 goes on") for out in said) == 1
    headers = {}
    for row in ("long", "a", "b"):
        about = json.loads((home / row / "s0/run.json").read_text())
        assert about["state"] == "done"
        headers[row] = (home / row / "s0/log.txt").read_text().count("\nstudent  ")
        ended = sum(out.count(f"{row}/s0: done") for out in said)
        assert ended == 1, (row, said)
    assert headers == {"long": 2, "a": 1, "b": 1}
    assert "resumed at step" in (home / "long/s0/log.txt").read_text()
    assert all("b: " in out and " row " in out for out in said)  # each ends with the table


@pytest.fixture
def queue(here, sqlite, monkeypatch):
    """Makes a Sharing of two runs; the first one's processes end with these codes, then well."""
    (here / "two.yaml").write_text("ROWS: {a: {CONFIG: student.yaml}, b: {CONFIG: teacher.yaml}}")

    def make(*codes: int) -> Sharing:
        left = [*codes]

        def attend(run: Planned, **_) -> Outcome:
            code = left.pop(0) if left and run.row == "a" else 0
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "run.json").write_text('{"state": "running"}')
            if not code:
                test = {"top1": 50.0, "top5": 90.0, "nll": 1.0, "ece": 0.1}
                found = {"test": test, "config": run.digest, "seconds": 1.0}
                (run.folder / "results.json").write_text(json.dumps(found))
            return Outcome(code, "said why")

        monkeypatch.setattr(sharing, "attend", attend)
        return Sharing(plan(read_study("two.yaml")), sqlite, 1, 8)

    return make


def states(queue: Sharing) -> dict[str, list[str]]:
    return {key: [t.state.name for t in trials] for key, trials in queue.attempts().items()}


def test_a_full_disk_ends_this_worker_and_fails_no_run(queue) -> None:
    sick = queue(4)
    with pytest.raises(StorageFault, match="said why"):
        sick.work(lambda: 0, retry=False, debug=False)
    well = queue()
    well.work(lambda: signal.SIGUSR1, retry=False, debug=False)  # between runs nothing is to save
    well.end()
    assert states(well) == {"a/s0": ["FAIL", "COMPLETE"], "b/s0": ["COMPLETE"]}


def test_a_run_that_loses_its_process_goes_on_but_not_for_ever(queue) -> None:
    killed = queue(6, 6)
    killed.work(lambda: 0, retry=False, debug=False)
    killed.end()
    assert states(killed) == {"a/s0": ["FAIL", "FAIL", "COMPLETE"], "b/s0": ["COMPLETE"]}


def test_a_run_that_loses_one_process_after_another_has_failed(queue) -> None:
    killed = queue(6, 6, 6)
    killed.work(lambda: 0, retry=False, debug=False)
    assert states(killed) == {"a/s0": ["FAIL"] * 3, "b/s0": ["COMPLETE"]}
    with pytest.raises(RunsFailed, match=r"1 of 2 runs failed: a/s0 \(said why\)") as failed:
        killed.end()
    assert failed.value.exit_code == 6


def of_row_a(url: str) -> Work:
    return Work(read_study("two.yaml"), ["a"], [], url, 1, 8, retry=False, debug=False)


def test_a_worker_of_one_row_leaves_the_others_figures_in_the_table(queue, here, sqlite) -> None:
    queue().work(lambda: 0, retry=False, debug=False)
    shutil.rmtree(here / "runs/studies/two/b")  # another machine's
    of_row_a(sqlite).train()
    rows = json.loads((here / "runs/studies/two/study.json").read_text())["rows"]
    assert rows["b"]["top1"]["mean"] == 50.0


def test_why_the_only_row_failed_is_told_though_there_is_no_table(queue, sqlite) -> None:
    queue(3)
    with pytest.raises(RunsFailed, match=r"a/s0 \(said why\)") as failed:
        of_row_a(sqlite).train()
    assert failed.value.exit_code == 3


def test_figures_travel_through_the_storage(there, tmp_path, sqlite, run_study) -> None:
    """Two machines that share no folder: each trains some, and both have the whole table."""
    machines = [tmp_path / "first", tmp_path / "second"]
    for machine in machines:
        machine.mkdir()
        for name in ("base", "student"):
            shutil.copy(there / f"{name}.yaml", machine)
        (machine / "pair.yaml").write_text(WORK.replace("EPOCHS: 60", "EPOCHS: 3"))
    words = ("--worker", "--storage", sqlite, *BEATS)
    first = run_study(machines[0], "--rows", "a", *words, study="pair.yaml")
    assert first.returncode == 0, first.stderr
    second = run_study(machines[1], *words, study="pair.yaml")
    assert second.returncode == 0, second.stderr
    assert "a/s0 begins" not in second.stdout and "b/s0: done" in second.stdout
    report = run_study(machines[0], "--report-only", "--storage", sqlite, study="pair.yaml")
    assert report.returncode == 0, report.stderr
    rows = json.loads((machines[0] / "runs/studies/pair/study.json").read_text())["rows"]
    assert all(rows[row]["top1"]["n"] == 1 for row in ("long", "a", "b"))
    changed = WORK.replace("LR: 0.02", "LR: 0.03").replace("EPOCHS: 60", "EPOCHS: 3")
    (machines[0] / "pair.yaml").write_text(changed)
    wrong = run_study(machines[0], *words, study="pair.yaml")
    assert wrong.returncode == 2
    assert "pair.yaml: ROWS.b: SOLVER.LR was 0.02 in the storage's b/s0, and is 0.03 now" in (
        wrong.stderr
    )
