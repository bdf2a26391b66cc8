"""How a command ends when nobody listens, when it is interrupted early, and without asserts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", "student.yaml"]

SETTINGS = """
import sys
from kdframe.config import ConfigError, load, read
if __debug__:
    print("asserts are on", file=sys.stderr)
for word in sys.argv[1:]:
    try:
        load("student.yaml", [word])
        print(f"{word}: loads")
    except ConfigError as error:
        print(f"{word}: {error}")
"""
WRONG = (
    "SOLVER.EPOCHS=many", "SOLVER.EPOCHS=0", "SOLVER.LR=nan", "SOLVER.LR=-1", "SEED=-1",
    "SOLVER.STEPS=[3, 2]", "SOLVER.EPOCH=2", "STUDENT.NAME=resnt18", "STUDENT.DEPHT=8",
    "STUDENT.DEPTH=x", "LOSS.kd={}", "LOSS=3", "HOOKS.metrics.PERIOD=true", "DATASET.VAL=1.5",
    "TEACHER.NAME=resnet18", "BASELINE=nowhere.yaml", "MODULES=[antigravity]", "MODULES=[a-b]",
    "TEACHER.WEIGHTS=x.pt", "SOLVER.ACCUMULATE=7", "CHECKPOINT.KEEP=1", "DATASET.WORKERS=-1",
)  # fmt: skip


@pytest.mark.faults
def test_messages_are_the_same_without_asserts(lab) -> None:
    """Under ``python -O`` nothing is let through that is refused without it."""
    said = [
        subprocess.run(
            [sys.executable, *flags, "-c", SETTINGS, *WRONG],
            cwd=lab.where,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for flags in ([], ["-O"])
    ]
    assert [one.stderr for one in said] == ["asserts are on\n", ""]
    assert said[0].stdout == said[1].stdout
    lines = said[0].stdout.splitlines()
    assert len(lines) == len(WRONG)
    assert not [line for line in lines if line.endswith(": loads")]


def test_a_tool_whose_reader_goes_away_ends_without_a_word(lab) -> None:
    """As ``| head -1`` does; with much to say, and with so little that it fits in a buffer."""
    for words in ("list_parts.py distillers", "list_parts.py backbones resnet18"):
        command = [sys.executable, *words.replace("list_parts", f"{ROOT}/tools/list_parts").split()]
        process = subprocess.Popen(
            command, cwd=lab.where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert process.wait() == 128 + signal.SIGPIPE
        assert error == ""


def test_a_full_disk_behind_stdout_is_told(lab) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*TRAIN, "--print-config"],
            cwd=lab.where,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == "error: storage: No space left on device\n"
    assert done.returncode == 4


def test_help_needs_no_stdout(lab) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *TRAIN, "-h"],
        cwd=lab.where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr  # argparse prints its help there then


@pytest.mark.parametrize(
    "after", [0.2, *(pytest.param(s, marks=pytest.mark.faults) for s in (0.0, 0.5, 1.0, 2.0))]
)
def test_an_interrupt_while_torch_is_imported_leaves_no_traceback(lab, after, count) -> None:
    """In a tool that has no step to finish; training answers where it polls."""
    process = lab.start("distillers", tool="list_parts.py")
    maps = Path(f"/proc/{process.pid}/maps")
    while process.popen.poll() is None and "libtorch" not in maps.read_text():
        time.sleep(0.01)
    time.sleep(after)
    if process.popen.poll() is None:
        process.signal(signal.SIGINT)
    code, _, err = process.end()
    done = [(0, "")] if after >= 0.5 else []  # it may have ended by then
    assert (code, err) in [*done, (130, "error: stopped by SIGINT\n")], err
    count("early interrupts answered in one line", int(code == 130))


@pytest.mark.faults
def test_a_run_without_stdout_and_stderr_is_whole(lab) -> None:
    """``>&- 2>&-``: what is opened next must not stand in their places."""
    words = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *TRAIN, "OUTPUT_DIR", "quiet"]
    assert subprocess.run(words, cwd=lab.where, timeout=100).returncode == 0
    assert (lab.where / "quiet" / "results.json").exists()


@pytest.mark.faults
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "log.txt"])
def test_a_link_in_a_strangers_folder_leads_to_no_file_outside(lab, name) -> None:
    folder, precious = lab.where / "theirs", lab.where / "precious"
    precious.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(precious)
    words = [*TRAIN, "OUTPUT_DIR", str(folder)]
    done = subprocess.run(words, cwd=lab.where, timeout=100, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"{folder / name}: Too many levels of symbolic links\n")
    assert precious.read_text() == "precious"
