"""What is found before step 0, in this process; tests/faults/ has the command's answers."""

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdframe import build, checkpoint
from kdframe.build import Data
from kdframe.config import Config, ConfigError, load
from kdframe.preflight import (
    bytes_of,
    preflight,
    refuse_full,
    refuse_groups,
    refuse_labels,
    size_of_state,
)
from kdframe.trainer import Trainer

CONFIG = """
DATASET: {NAME: glyphs, TRAIN: 108, TEST: 36, VAL: 36}
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random}
LOSS: {cross_entropy: {}, kd: {}, crd: {NEGATIVES: 8}}
SOLVER: {EPOCHS: 1, BATCH_SIZE: 12, LR: 0.01}
DEVICE: cpu
"""


def made(folder: Path, *words: str) -> tuple[Config, Data, Trainer]:
    path = folder / "c.yaml"
    path.write_text(CONFIG)
    config = load(path, list(words))
    data = build.build_data(config, torch.device("cpu"))
    student, teachers = build.build_networks(config, data)
    return config, data, build.build_trainer(config, data, student, teachers, folder)


def test_the_checks_change_nothing(tmp_path) -> None:
    config, data, trainer = made(tmp_path)
    trainer.hooks = ()  # to ask for their state may write their file
    draws, before = torch.get_rng_state(), copy.deepcopy(trainer.state())
    teacher = checkpoint.digest(trainer.model.teacher.state_dict())
    preflight(config, data, trainer)
    after = trainer.state()
    for part in ("student", "learned", "deployed"):
        assert checkpoint.digest(after[part]) == checkpoint.digest(before[part])
    assert checkpoint.digest(trainer.model.teacher.state_dict()) == teacher
    assert torch.equal(torch.get_rng_state(), draws)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "adafactor", "muon"])
@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_the_size_of_a_checkpoint_is_known_before_the_first_step(tmp_path, optimizer, ema) -> None:
    words = ("SOLVER.OPTIMIZER", optimizer, "SOLVER.EMA", ema, "SOLVER.MOMENTUM", "0.9")
    _, _, trainer = made(tmp_path, *words)
    trainer.hooks = []
    measured = size_of_state(trainer)
    trainer.train()
    assert measured == bytes_of(trainer.state())
    assert 0 < measured < (tmp_path / "checkpoints/step_6.pt").stat().st_size


def test_a_disk_that_has_room_for_one_goes_on_with_a_run_that_has_one(
    tmp_path, monkeypatch
) -> None:
    config, data, trainer = made(tmp_path)
    trainer.hooks = []
    size = size_of_state(trainer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size * 3 // 2))
    with pytest.raises(OSError, match="2 checkpoints take"):
        preflight(config, data, trainer)
    trainer.save()
    preflight(config, data, trainer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size // 2))
    with pytest.raises(OSError, match="a checkpoint takes"):
        preflight(config, data, trainer)


def test_room_is_looked_for_above_a_folder_that_will_be_made(tmp_path) -> None:
    (tmp_path / "file").touch()
    refuse_full(tmp_path / "new/deep", 1)
    with pytest.raises(ConfigError, match=r"OUTPUT_DIR: nothing can be made in .*file: "):
        refuse_full(tmp_path / "file/deep", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("label", [-1, 36])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_label_out_of_range_is_named(tmp_path, split, label) -> None:
    config, data, _ = made(tmp_path)
    refuse_labels(config, data)
    loader = getattr(data, split)
    loader.stream.dataset.tensors()[1][loader.items[0]] = label
    with pytest.raises(ConfigError, match=f"1 labels .* outside 0 to 35, {label} for one"):
        refuse_labels(config, data)


def test_every_tensor_that_is_trained_is_in_one_group(tmp_path) -> None:
    _, _, trainer = made(tmp_path)
    refuse_groups(trainer)
    [group] = trainer.optimizer.param_groups
    last = group["params"].pop()
    with pytest.raises(RuntimeError, match="is in 0 groups"):
        refuse_groups(trainer)
    group["params"] += [last, last]
    with pytest.raises(RuntimeError, match="is in 2 groups"):
        refuse_groups(trainer)
    group["params"][-1] = next(trainer.model.teacher.parameters())
    with pytest.raises(RuntimeError, match="a teacher's is in one"):
        refuse_groups(trainer)
