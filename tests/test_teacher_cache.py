"""Kept answers are the teacher's own to the bit, and a part that isn't whole is never read."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdframe import build, checkpoint, teacher_cache
from kdframe.backbones import Backbone
from kdframe.config import ConfigError, load
from kdframe.teachers import cache_of
from kdframe.trainer import Stopped, Trainer

CONFIG = """
DATASET: {NAME: glyphs, TRAIN: 100, TEST: 36, VAL: 10, AUGMENT: crop_flip}
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random, CACHE: fp32}
LOSS: {cross_entropy: {}, kd: {}, embedding_cosine: {}}
SOLVER: {EPOCHS: 3, BATCH_SIZE: 16, LR: 0.02}
DEVICE: cpu
"""
STEPS = 5  # an epoch: 90 images, 10 of them left over


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    return tmp_path


class Asked:
    """How often a teacher answered."""

    def __init__(self, teacher: Backbone) -> None:
        self.times = 0
        teacher.register_forward_hook(self.count)

    def count(self, *_: object) -> None:
        self.times += 1


def made(*words: str, **more: object) -> tuple[Trainer, Asked]:
    config = load("c.yaml", words)
    data = build.build_data(config, torch.device("cpu"))
    student, teachers = build.build_networks(config, data)
    folder = Path("runs") / "-".join(words or ("plain",)).replace("/", "")
    folder.mkdir(parents=True, exist_ok=True)
    trainer = build.build_trainer(config, data, student, teachers, folder, **more)
    trainer.hooks = []
    trainer.model.cache = cache_of(config, data, trainer)
    return trainer, Asked(teachers["TEACHER"])


def trained(*words: str) -> tuple[dict[str, torch.Tensor], list[dict[str, float]], int]:
    trainer, asked = made(*words)
    trainer.train()
    return {**trainer.model.state_dict()}, trainer.history, asked.times


def same(one: tuple, other: tuple) -> bool:
    (weights, history, *_), (others, other_history, *_) = one, other
    alike = weights.keys() == others.keys() and history == other_history
    return alike and all(torch.equal(weights[k], others[k]) for k in weights)


def parts() -> list[str]:
    return sorted(p.name for p in teacher_cache.HOME.glob("*/*"))


def test_live_written_and_read_answers_train_the_same_bits() -> None:
    live = trained("TEACHER.CACHE=off")
    written = trained()
    assert parts() == [f"epoch_{i}.{ending}" for i in range(3) for ending in ("bin", "json")]
    read = trained()
    assert same(live, written) and same(live, read)
    assert (live[2], written[2], read[2]) == (3 * STEPS, 3 * STEPS, 0)


def test_another_student_weight_and_loss_read_what_is_there() -> None:
    trained()
    words = ("STUDENT.WIDTH=6", "LOSS.kd.WEIGHT=2", "LOSS.kd.TEMPERATURE=1", "LOSS.dkd={}")
    live, read = trained(*words, "TEACHER.CACHE=off"), trained(*words)
    assert same(live, read) and read[2] == 0


@pytest.mark.parametrize(
    "word",
    ["SEED=1", "TEACHER.WIDTH=10", "DATASET.AUGMENT=none", "DATASET.VAL=20", "TEACHER.CACHE=fp16"],
)
def test_other_views_and_teachers_have_answers_of_their_own(word) -> None:
    trained("SOLVER.EPOCHS=1")
    assert trained("SOLVER.EPOCHS=1", word)[2] > 0
    assert len(list(teacher_cache.HOME.iterdir())) == 2


def test_other_weights_have_answers_of_their_own() -> None:
    trained("SOLVER.EPOCHS=1")
    trainer, _ = made("SOLVER.EPOCHS=1")
    checkpoint.save_weights(Path("t.safetensors"), trainer.model.teacher.network.state_dict(), {})
    with torch.no_grad():
        trainer.model.teacher.network.conv1.weight.mul_(1.001)
    checkpoint.save_weights(Path("u.safetensors"), trainer.model.teacher.network.state_dict(), {})
    counts = []
    for name in ("t", "u"):
        config = load("c.yaml", [f"TEACHER.WEIGHTS={name}.safetensors", "SOLVER.EPOCHS=1"])
        data = build.build_data(config, torch.device("cpu"))
        student, teachers = build.build_networks(config, data)
        cache = cache_of(config, data, build.build_trainer(config, data, student, teachers, Path()))
        counts.append(cache.folder.exists())
    assert counts == [True, False]


def test_cached_epochs_repeat_their_views() -> None:
    words = ("TEACHER.CACHE_EPOCHS=2", "SOLVER.EPOCHS=6")
    first = trained(*words)
    assert parts() == [f"epoch_{i}.{ending}" for i in range(2) for ending in ("bin", "json")]
    assert 2 * STEPS <= first[2] < 6 * STEPS  # the few that an earlier epoch left over come later
    again = trained(*words)
    assert same(first, again) and again[2] < first[2]
    loader = made(*words)[0].train_loader
    views = []
    for epoch in (0, 2):
        batches = list(loader.train(epoch, 16, augmented_as=epoch % 2))
        pairs = [(b.item.tolist(), b.image) for b in batches]
        views.append({i: x for items, images in pairs for i, x in zip(items, images, strict=True)})
    shared = views[0].keys() & views[1].keys()
    assert len(shared) > 60 and all(torch.equal(views[0][i], views[1][i]) for i in shared)


def test_half_precision_answers_are_the_same_written_or_read_and_near() -> None:
    live = trained("TEACHER.CACHE=off")
    written, read = trained("TEACHER.CACHE=fp16"), trained("TEACHER.CACHE=fp16")
    assert same(written, read) and not same(live, read)
    assert written[1][0]["train/kd"] == pytest.approx(live[1][0]["train/kd"], rel=1e-2)


def test_another_batch_size_reads_them_too_and_is_told(caplog) -> None:
    trained()
    caplog.set_level(logging.INFO)
    live, read = (
        trained("SOLVER.BATCH_SIZE=20", "TEACHER.CACHE=off"),
        trained("SOLVER.BATCH_SIZE=20"),
    )
    assert "from a run with BATCH_SIZE 16: equal to this one's to rounding" in caplog.text
    assert 0 <= read[2] < live[2]
    for key in live[0]:
        torch.testing.assert_close(read[0][key], live[0][key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("harm", ["flip", "cut", "no manifest", "manifest"])
def test_a_part_that_is_not_whole_is_made_anew(harm) -> None:
    live = trained("TEACHER.CACHE=off")
    trained()
    (path,) = teacher_cache.HOME.glob("*/epoch_1.bin")
    if harm == "flip":
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "manifest":
        path.with_suffix(".json").write_text("{")
    else:
        path.with_suffix(".json").unlink()
    mended = trained()
    assert same(live, mended) and mended[2] == STEPS
    assert trained()[2] == 0


def test_a_stopped_epoch_leaves_no_part_and_a_resumed_one_ends_with_the_same_bits() -> None:
    live = trained("TEACHER.CACHE=off")
    runs: list[Trainer] = []
    trainer, _ = made(asked=lambda: 15 if runs and runs[0].step == STEPS + 2 else 0)
    runs.append(trainer)
    with pytest.raises(Stopped):
        trainer.train()
    assert parts() == ["epoch_0.bin", "epoch_0.json"]
    second, asked = made()
    second.load(checkpoint.newest(Path("runs/plain/checkpoints")))
    second.train()
    assert same(live, ({**second.model.state_dict()}, second.history))
    assert asked.times == 2 * STEPS - 2 and parts()[:2] == ["epoch_0.bin", "epoch_0.json"]
    assert "epoch_1.bin" not in parts() and "epoch_2.bin" in parts()


def test_a_full_disk_is_told_once_and_the_teacher_answers_itself(monkeypatch, caplog) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    live = trained("TEACHER.CACHE=off")
    monkeypatch.setattr(os, "posix_fallocate", full)
    caplog.set_level(logging.INFO)
    got = trained()
    assert same(live, got) and parts() == []
    assert caplog.text.count("no answers are kept: [Errno 28] No space left on device") == 1


def test_room_is_taken_where_the_system_has_no_call_for_it(monkeypatch, tmp_path) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(teacher_cache, "CHUNK", 64)
    teacher_cache.reserve(tmp_path / "part", 150)
    assert (tmp_path / "part").read_bytes() == bytes(150)


def test_what_a_killed_process_left_goes_and_a_living_ones_stays() -> None:
    trained("SOLVER.EPOCHS=1")
    (home,) = teacher_cache.HOME.iterdir()
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    host = socket.gethostname()
    left, lives, elsewhere = (
        home / f".epoch_7.bin.{host}.{int(dead.stdout)}.tmp",
        home / f".epoch_7.bin.{host}.{os.getppid()}.tmp",
        home / f".epoch_7.bin.other-{host}.{int(dead.stdout)}.tmp",
    )
    for path in (left, lives, elsewhere):
        path.touch()
    trained("SOLVER.EPOCHS=2")
    assert [p.exists() for p in (left, lives, elsewhere)] == [False, True, True]


def test_the_size_is_told_before_anything_is_written(caplog) -> None:
    caplog.set_level(logging.INFO)
    trainer, _ = made()
    row = 4 * (36 + 32) + 1
    assert (
        f"100 images x (36 + 32) numbers of 32 bits, {100 * row / 1e6:,.1f} MB a part"
        in caplog.text
    )
    assert "in 3 parts" in caplog.text and not teacher_cache.HOME.exists()
    assert trainer.model.cache is not None and trainer.model.cache.bytes == 100 * row


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (
            ["LOSS.at={}"],
            "LOSS.at: it looks at the teacher's feature maps, and TEACHER.CACHE keeps",
        ),
        (["LOSS.mlkd={}"], "LOSS.mlkd: it needs views, and TEACHER.CACHE keeps one teacher's"),
        (["LOSS.ofd={}"], "LOSS.ofd: it needs preactivations, and TEACHER.CACHE keeps"),
        (["TEACHER.TRAIN=true"], "TEACHER.CACHE: a teacher that learns gives another answer"),
        (["TEACHER.CACHE=fp64"], "TEACHER.CACHE takes one of off, fp32, fp16, not 'fp64'."),
    ],
)
def test_what_cannot_be_served_is_refused_while_the_run_is_built(words, answer) -> None:
    with pytest.raises(ConfigError) as caught:
        made(*words)
    assert answer in str(caught.value)


def test_epochs_to_repeat_without_a_cache_are_a_warning() -> None:
    (warning,) = load("c.yaml", ["TEACHER.CACHE=off", "TEACHER.CACHE_EPOCHS=3"]).warnings
    assert "TEACHER.CACHE_EPOCHS: it has no effect under CACHE off." in warning


def test_a_manifest_says_what_was_written() -> None:
    trained("SOLVER.EPOCHS=1")
    (path,) = teacher_cache.HOME.glob("*/epoch_0.json")
    said = json.loads(path.read_text())
    assert (said["BATCH_SIZE"], said["processes"]) == (16, 1)
    assert said["size"] == path.with_suffix(".bin").stat().st_size


def test_two_processes_write_one_part_and_read_it() -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(root / "tools/train_net.py"), "--config-file", "c.yaml", "SOLVER.EPOCHS=2"]
    for name, kind in (("live", "off"), ("written", "fp32"), ("read", "fp32")):
        words = [f"OUTPUT_DIR={name}", f"TEACHER.CACHE={kind}"]
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert parts() == [f"epoch_{i}.{ending}" for i in range(2) for ending in ("bin", "json")]
    students = [Path(name, "student.safetensors") for name in ("live", "written", "read")]
    live, written, read = (checkpoint.load_weights(path)[0] for path in students)
    assert checkpoint.digest(live) == checkpoint.digest(written) == checkpoint.digest(read)
    (manifest,) = teacher_cache.HOME.glob("*/epoch_1.json")
    assert json.loads(manifest.read_text())["processes"] == 2
