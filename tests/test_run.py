"""A run from the outside: what it leaves, how it ends, and that it goes on where it stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdframe import checkpoint

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file"]

BASE = """
DATASET: {NAME: glyphs, TRAIN: 720, TEST: 180, VAL: 72}
SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 3, BATCH_SIZE: 54}
HOOKS: {metrics: {PERIOD: 1}, tensorboard: null, curves: null}
"""
STUDENT = """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
LOSS: {cross_entropy: {}}
"""
TEACHER = """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 16, STRIDE: 2}
LOSS: {cross_entropy: {}}
SOLVER: {EPOCHS: 15}
"""
KD = """
_BASE_: student.yaml
TEACHER: {CONFIG: teacher.yaml}
BASELINE: student.yaml
LOSS: {kd: {}, feature: {}}
"""
FROM_FILE = ("TEACHER", "{NAME: cifar_resnet, DEPTH: 8, WIDTH: 16, STRIDE: 2, CONFIG: ''}")
WALL_CLOCK = ("seconds", "images_per_second")


def train(where: Path, *words: str, config: str = "kd.yaml") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, config, *words], cwd=where, capture_output=True, text=True)


def results(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in WALL_CLOCK}


@pytest.fixture(scope="module")
def where(tmp_path_factory) -> Path:
    """A working folder with four configs, in which the teacher and the baseline are trained."""
    where = tmp_path_factory.mktemp("work")
    for name, text in (("base", BASE), ("student", STUDENT), ("teacher", TEACHER), ("kd", KD)):
        (where / f"{name}.yaml").write_text(text)
    done = train(where)
    assert done.returncode == 0, done.stderr
    (where / "stdout").write_text(done.stdout)
    return where


@pytest.fixture(scope="module")
def folder(where) -> Path:
    return (where / "runs/kd/latest").resolve()


def test_a_run_leaves_what_it_promises(where, folder) -> None:
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        "config.yaml", "run.json", "log.txt", "metrics.jsonl", "checkpoints", "results.json",
        "complexity.json", "complexity.md", "student.safetensors", "student_best.safetensors",
    }  # fmt: skip
    about = json.loads((folder / "run.json").read_text())
    assert about["state"] == "done" and about["seed"] == 0 and about["versions"]["torch"]
    found = results(folder)
    assert found["gain"] == pytest.approx(found["test"]["top1"] - found["baseline"]["top1"])
    assert {"val", "test", "test_best", "teacher", "agreement"} <= found.keys()
    assert len(list((where / "runs/recipes").iterdir())) == 2


def test_the_console_and_log_txt_say_the_same(where, folder) -> None:
    said = (where / "stdout").read_text()
    assert (folder / "log.txt").read_text() == said
    assert "L = cross_entropy + kd + feature" in said
    assert "\nteacher  folded: 9 convolutions, largest difference " in said
    rows = ("teacher", "student alone", "distilled student", "gain", "agreement")
    for row in rows:
        assert f"\n {row} " in said


def test_the_time_to_the_first_step_is_told_in_parts(where) -> None:
    """Once a run, recipes too; they import nothing any more."""
    lines = [x for x in (where / "stdout").read_text().splitlines() if x.startswith("start ")]
    names = [[part.rsplit(maxsplit=1)[0] for part in x[9:-2].split(", ")] for x in lines]
    recipe = ["data", "networks", "checks", "first step"]
    assert names == [recipe, recipe, ["imports", *recipe[:3], "teacher's test", recipe[3]]]


def test_a_recipe_is_found_again(where, folder) -> None:
    again = train(where, "SOLVER.EPOCHS", "1", "OUTPUT_DIR", "again", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is first trained in") == 0 < again.stdout.count("was trained in")
    assert again.stdout.count("holds no checkpoint yet: the run starts at step 0") == 1
    assert results(where / "again")["teacher"] == results(folder)["teacher"]


def test_the_written_config_trains_the_same_student(where, folder) -> None:
    again = train(where, "OUTPUT_DIR", "same", config=str(folder / "config.yaml"))
    assert again.returncode == 0, again.stderr
    assert results(where / "same") == results(folder)


def test_a_stopped_run_goes_on_to_the_same_bytes(where, folder) -> None:
    """SIGTERM twice at some step, then to the end: weights, metrics and results are equal."""
    target = where / "stopped"
    words = [*TRAIN, "kd.yaml", "OUTPUT_DIR", "stopped"]
    for turn, step in enumerate((3, 7)):
        process = subprocess.Popen(
            words + ["--resume"] * turn, cwd=where, stdout=subprocess.PIPE, text=True
        )
        wait_for(process, target / "metrics.jsonl", f'"step": {step},')
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 143
        assert json.loads((target / "run.json").read_text())["state"] == "stopped"
    done = train(where, "--resume", "OUTPUT_DIR", "stopped")
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout
    for name in ("student.safetensors", "student_best.safetensors", "metrics.jsonl"):
        assert (target / name).read_bytes() == (folder / name).read_bytes(), name
    assert results(target) == results(folder)


def wait_for(process: subprocess.Popen[str], path: Path, text: str) -> None:
    while process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"ended with {process.returncode} before {text}")


def test_a_finished_run_answers_resume_with_its_table(where) -> None:
    done = train(where, "--resume")
    assert done.returncode == 0 and "student alone" in done.stdout


def test_an_occupied_folder_is_refused_before_torch_is_there(where, folder) -> None:
    started = time.monotonic()
    refused = train(where, "OUTPUT_DIR", str(folder))
    assert time.monotonic() - started < 1.5
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert "--resume goes on with it, another OUTPUT_DIR" in refused.stderr


def test_another_config_cannot_resume(where, folder) -> None:
    refused = train(where, "--resume", "OUTPUT_DIR", str(folder), "SOLVER.LR", "0.1")
    assert refused.returncode == 2
    assert "SOLVER.LR" in refused.stderr and "0.01" in refused.stderr and "0.1" in refused.stderr


def test_a_finished_run_goes_on_to_more_epochs(where, folder) -> None:
    words = ("OUTPUT_DIR", "longer", "BASELINE", "''")
    assert train(where, *words, "SOLVER.EPOCHS", "1").returncode == 0
    assert results(where / "longer")["epochs"] == 1
    done = train(where, *words, "SOLVER.EPOCHS", "2", "--resume")
    assert done.returncode == 0, done.stderr
    assert "resumed at step 12 of 24" in done.stdout
    assert results(where / "longer")["epochs"] == 2
    shorter = train(where, *words, "SOLVER.EPOCHS", "1", "--resume")
    assert shorter.returncode == 2 and "SOLVER.EPOCHS" in shorter.stderr


def test_a_recipe_that_changed_under_a_run_is_seen(where, folder, tmp_path) -> None:
    for name in ("base", "student", "teacher", "kd"):
        (tmp_path / f"{name}.yaml").write_text((where / f"{name}.yaml").read_text())
    words = ("OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.EPOCHS", "1", "BASELINE", "''")
    config = str(tmp_path / "kd.yaml")
    assert train(where, *words, config=config).returncode == 0
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(teacher.read_text().replace("EPOCHS: 15", "EPOCHS: 16"))
    refused = train(where, *words, "--resume", config=config)
    assert refused.returncode == 2 and "isn't what the run in" in refused.stderr


def test_eval_only_reads_the_same_figure(where, folder) -> None:
    done = train(where, "--eval-only")
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "eval.json").read_text())
    assert found["test"]["top1"] == results(folder)["test"]["top1"]


def test_eval_only_reads_the_run_and_not_the_weights_that_it_began_with(where, folder) -> None:
    first = ("STUDENT.WEIGHTS", str(folder / "student.safetensors"), "OUTPUT_DIR", "fine")
    tuned = (*first, "SOLVER.EPOCHS", "1", "BASELINE", "''")
    assert train(where, *tuned).returncode == 0
    for words, weights in (
        (tuned, "fine/student.safetensors"),
        ((*tuned, "STUDENT.WEIGHTS", str(folder / "student_best.safetensors")), "student_best"),
    ):
        done = train(where, *words, "--eval-only")
        assert done.returncode == 0, done.stderr
        found = json.loads((where / "fine/eval.json").read_text())
        assert weights in found["weights"]
        same = found["test"]["nll"] == results(where / "fine")["test"]["nll"]
        assert same == (words is tuned)


def test_a_dry_run_leaves_nothing(where) -> None:
    before = sorted(where.rglob("*"))
    done = train(where, "--dry-run", "SEED", "5")
    assert done.returncode == 0, done.stderr
    assert "steps; about" in done.stdout and "peak memory" in done.stdout
    assert sorted(where.rglob("*")) == before


def test_a_dry_run_looks_at_the_folder_of_the_run(where, folder) -> None:
    """One that holds a run may be priced again, before it is resumed with more epochs, say."""
    done = train(where, "--dry-run", "OUTPUT_DIR", "base.yaml/run")
    answer = "OUTPUT_DIR: nothing can be made in base.yaml: Not a directory."
    assert done.returncode == 2 and answer in done.stderr, done.stderr
    assert train(where, "--dry-run", "OUTPUT_DIR", str(folder)).returncode == 0


def test_a_loss_that_is_not_finite_ends_with_3_and_names_term_and_step(where) -> None:
    done = train(where, "OUTPUT_DIR", "nan", "LOSS.kd.WEIGHT", "1e38", "SOLVER.LR", "1e30")
    assert done.returncode == 3
    assert done.stderr.startswith("error: diverged at step ") and done.stderr.count("\n") == 1
    assert not list((where / "nan").glob("*.safetensors"))
    assert json.loads((where / "nan/run.json").read_text())["state"] == "failed"


def test_when_no_checkpoint_is_whole_nothing_starts_from_zero(where, folder) -> None:
    target = where / "broken"
    (target / "checkpoints").mkdir(parents=True)
    (target / "checkpoints/step_3.json").write_text("{}")
    done = train(where, "--resume", "OUTPUT_DIR", "broken")
    assert done.returncode == 5 and "no checkpoint is whole" in done.stderr


def test_a_teacher_at_chance_is_refused_unless_that_is_meant(where, folder) -> None:
    weights, about = checkpoint.load_weights(
        next((where / "runs/recipes").glob("teacher-*/student.safetensors"))
    )
    torch.manual_seed(0)
    noise = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in weights.items()}
    noise = {k: v.abs() if "running_var" in k else v for k, v in noise.items()}
    checkpoint.save_weights(where / "noise.safetensors", noise, about)
    words = (*FROM_FILE, "TEACHER.WEIGHTS", "noise.safetensors")
    done = train(where, *words, "OUTPUT_DIR", "noise")
    assert done.returncode == 2 and "chance" in done.stderr
    said = train(where, *words, "OUTPUT_DIR", "said", "TEACHER.WEIGHTS", "random")
    assert said.returncode == 0, said.stderr


def test_a_teacher_of_other_classes_is_refused(where, folder) -> None:
    path = next((where / "runs/recipes").glob("teacher-*/student.safetensors"))
    weights, about = checkpoint.load_weights(path)
    about["classes"] = about["classes"][::-1]
    checkpoint.save_weights(where / "turned.safetensors", weights, about)
    words = (*FROM_FILE, "TEACHER.WEIGHTS", "turned.safetensors")
    done = train(where, *words, "OUTPUT_DIR", "turned")
    assert done.returncode == 2 and "classes (Z, Y, X" in done.stderr and "(0, 1, 2" in done.stderr


def test_a_folder_in_use_is_refused_with_the_process_named(where, folder) -> None:
    words = [*TRAIN, "kd.yaml", "OUTPUT_DIR", "used", "SOLVER.EPOCHS", "400"]
    process = subprocess.Popen(words, cwd=where, stdout=subprocess.DEVNULL)
    try:
        wait_for(process, where / "used/metrics.jsonl", '"step": 1,')
        second = train(where, "--resume", "OUTPUT_DIR", "used", "SOLVER.EPOCHS", "400")
    finally:
        process.kill()
        process.wait()
    assert second.returncode == 2 and f"in use by process {process.pid} on" in second.stderr
    third = train(where, "--resume", "OUTPUT_DIR", "used", "SOLVER.EPOCHS", "400", "--dry-run")
    assert third.returncode == 2  # --resume and --dry-run exclude each other


def test_two_processes_see_the_samples_of_one(where, folder) -> None:
    """Without BatchNorm the step's loss is the mean of the shares, so it differs by rounding."""
    vit = (
        "STUDENT", "{NAME: vit_tiny_patch16_224, IMAGE_SIZE: 32, PATCH_SIZE: 16}", "OUTPUT_DIR",
    )  # fmt: skip
    words = ("BASELINE", "''", "SOLVER.EPOCHS", "1", "LOSS", "{feature: null}", *vit)
    one = train(where, *words, "one")
    assert one.returncode == 0, one.stderr
    two = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *TRAIN[1:],
         "kd.yaml", *words, "two"],
        cwd=where, capture_output=True, text=True,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    losses = [
        [json.loads(line)["loss"] for line in (where / n / "metrics.jsonl").read_text().splitlines()
         if '"loss"' in line]
        for n in ("one", "two")
    ]  # fmt: skip
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
