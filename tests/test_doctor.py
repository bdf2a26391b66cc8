"""The doctor finds what would stop a run, says what to do, and leaves nothing behind."""

import errno
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from kdframe import doctor, exit_codes
from kdframe.commands import doctor as command
from kdframe.config import load
from kdframe.dry_run import Estimate
from kdframe.prognosis import costs

ROOT = Path(__file__).parents[1]
CONFIG = """
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
DATASET: {NAME: glyphs, TRAIN: 144, TEST: 40, VAL: 36}
LOSS: {cross_entropy: {}}
SOLVER: {EPOCHS: 3, BATCH_SIZE: 16}
"""
KD = """
_BASE_: c.yaml
TEACHER: {CONFIG: t.yaml}
LOSS: {kd: {}}
"""
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    Path("t.yaml").write_text("_BASE_: c.yaml\nSTUDENT: {WIDTH: 8}\n")
    Path("kd.yaml").write_text(KD)
    return tmp_path


@pytest.fixture
def call(capsys):
    """The command's exit code, its findings by what they are about, and stderr."""

    def call(*words: str) -> tuple[int, dict[str, tuple[str, str]], str]:
        code = exit_codes.answered(lambda: command.main(words))
        printed = capsys.readouterr()
        found = {}
        for line in printed.out.splitlines():
            if line[:8].strip() in ("ok", "warning", "error"):
                found[line[9:24].strip()] = line[:8].strip(), line[24:]
        return code, found, printed.err

    return call


def test_without_a_config_the_machine_is_looked_at(call) -> None:
    code, found, err = call()
    assert code == 0, err
    assert f"torch {torch.__version__.partition('+')[0]}" in found["packages"][1]
    about = {"packages", "CPU", "threads", "PRECISION", "memory", "folder", "files", "/dev/shm"}
    assert about <= found.keys()
    assert "fp32" in found["PRECISION"][1] and not {"config", "data"} & found.keys()


def test_a_config_s_data_recipes_time_memory_and_disk_are_told(call) -> None:
    code, found, err = call("--config-file", "kd.yaml")
    assert code == 0, err
    assert found["data"] == (
        "ok",
        "glyphs: 108 train, 36 val, 40 test images of 32x32 in 36 classes",
    )
    assert "t.yaml will be trained first" in found["TEACHER.CONFIG"][1]
    assert "for 18 steps" in found["time"][1]
    assert "GiB at the peak" in found["memory"][1] and " MB; runs can be " in found["disk"][1]


def test_memory_that_other_processes_have_is_not_free(monkeypatch) -> None:
    """Of 80 GiB another has 40, and this process kept 10 for its three steps."""
    GiB = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 * GiB, 80 * GiB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10 * GiB)
    for peak, level in ((35, "ok"), (39, "warning")):
        found = Estimate(steps=9, seconds=1.0, memory=peak * GiB, disk=1e6)
        said = {one.about: one for one in costs(load("c.yaml"), torch.device("cuda"), found)}
        assert said["memory"].level == level


def test_nothing_is_left_behind(call, work) -> None:
    before = sorted(work.rglob("*"))
    assert call("--config-file", "kd.yaml", "TEACHER.CACHE", "fp16")[0] == 0
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "about", "why"),
    [
        (("SOLVER.LR", "nan"), "config", "SOLVER.LR takes a finite number"),
        (("SOLVER.PRECISION", "fp16", "DEVICE", "cpu"), "device", "fp16 needs an accelerator"),
        (("SOLVER.BATCH_SIZE", "500"), "data", "a batch of 500 takes more"),
        (("TEACHER", "{NAME: resnet8, WEIGHTS: w.pt, CONFIG: ''}"), "networks", "doesn't fit"),
        (("SOLVER.LR", "1e38"), "networks", "diverged at step"),
    ],
)
def test_what_would_stop_the_run_is_an_error_and_exit_code_2(call, words, about, why) -> None:
    torch.save({"weight": torch.zeros(2)}, "w.pt")
    code, found, err = call("--config-file", "c.yaml", *words)
    assert code == 2 and found[about][0] == "error" and why in found[about][1]
    assert err.startswith("error: 1 of ") and err.count("\n") == 1


def test_a_set_that_is_not_there_is_named(call) -> None:
    Path("f.yaml").write_text(
        CONFIG.replace("glyphs, TRAIN: 144, TEST: 40, VAL: 36", "image_folder, ROOT: none")
    )
    code, found, _ = call("--config-file", "f.yaml")
    assert code == 2 and found["data"][0] == "error" and "none" in found["data"][1]


def test_a_warning_stops_nothing(call) -> None:
    code, found, err = call("--config-file", "c.yaml", "SOLVER.STEPS", "[1]")
    assert code == 0, err
    assert found["config"][0] == "ok"
    Path("runs").mkdir()
    Path("runs/run.json").write_text("{}")
    Path("runs/config.yaml").write_text(load("c.yaml").dump())
    for words, said in (
        ((), "runs holds a run; train with --resume"),
        (("SEED", "9"), "runs holds the run of another config; name another folder"),
    ):
        code, found, _ = call("--config-file", "c.yaml", "OUTPUT_DIR", "runs", *words)
        assert code == 0 and found["OUTPUT_DIR"] == ("warning", said)


def test_a_setting_without_a_config_is_refused(call) -> None:
    code, _, err = call("SEED", "3")
    assert (code, err) == (2, "error: command line: SEED is a setting of no --config-file.\n")


def test_a_folder_that_cannot_be_written_is_an_error(monkeypatch) -> None:
    def refuse(**where: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = doctor.writable(Path("runs/deep"))
    assert found.level == "error" and "runs/deep can't be written: Permission denied" in found.said


def test_a_full_disk_and_a_small_shared_memory_are_warnings(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**26))
    assert doctor.writable(Path("runs")).level == "warning"
    if doctor.SHM.exists():
        assert "--shm-size" in doctor.shared_memory().todo


def test_a_low_limit_of_open_files_is_a_warning_with_the_command(monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 4096))
    found = doctor.open_files()
    assert (found.level, found.todo) == ("warning", "ulimit -n 1024")


def test_more_threads_than_cores_are_a_warning(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert doctor.threads().level == "warning" and "OMP_NUM_THREADS=" in doctor.threads().todo


def test_a_package_that_is_too_old_or_missing_is_an_error(monkeypatch) -> None:
    asked = ["torch>=999", "nowhere", 'nothing; extra == "export"']
    monkeypatch.setattr(doctor, "requires", lambda name: asked)
    first, *others = doctor.packages()
    assert first.level == "error"
    assert "and torch>=999 is needed" in first.said and "nowhere isn't installed" in first.said
    assert "nothing" not in first.said and all(one.level == "ok" for one in others)


@pytest.mark.parametrize("folder", [0, 1])
def test_a_container_s_limit_counts_and_its_cache_does_not(tmp_path, monkeypatch, folder) -> None:
    _, limit, used, cache = doctor.CGROUPS[folder]
    for name, text in ((limit, "1000"), (used, "900"), ("memory.stat", f"anon 5\n{cache} 300\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(doctor, "CGROUPS", [(str(tmp_path), limit, used, cache)])
    (tmp_path / "meminfo").write_text("MemAvailable: 99 kB\n")
    monkeypatch.setattr(doctor, "MEMINFO", tmp_path / "meminfo")
    assert doctor.available() == 400
    (tmp_path / limit).write_text("max")
    assert doctor.available() == 99 * 1024


def test_the_script_is_the_command() -> None:
    words = [str(ROOT / "tools/doctor.py"), "--config-file", "c.yaml"]
    done = subprocess.run([sys.executable, "-W", "error", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\n\nok       config" in done.stdout and "checks: no error" in done.stdout
