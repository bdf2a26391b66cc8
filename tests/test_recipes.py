"""The shipped configs: each is whole, says how it is run, and CIFAR-100's each train for a step."""

import copy
import functools
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kdframe import build
from kdframe.backbones import Backbone
from kdframe.config import Config, ConfigError, load
from kdframe.registry import BACKBONES
from kdframe.schema import teachers_of
from kdframe.trainer import Trainer

ROOT = Path(__file__).parents[1]
STUDIES = sorted(ROOT.glob("configs/studies/*.yaml"))
CONFIGS = [
    path
    for path in sorted(ROOT.glob("configs/**/*.yaml"))
    if path.name != "base.yaml" and path not in STUDIES
]
CIFAR100 = [path for path in CONFIGS if "cifar100" in path.parts]
PAIRS = [
    base.parent
    for base in sorted(ROOT.glob("configs/cifar100/*/base.yaml"))
    if "TEACHER:" in base.read_text()
]
TINY = ("DATASET.NAME=glyphs", "DATASET.TRAIN=36", "DATASET.TEST=36", "SOLVER.BATCH_SIZE=2")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_it_loads_to_itself_and_without_a_warning(path, tmp_path) -> None:
    config = load(path)
    (tmp_path / "config.yaml").write_text(config.dump())
    again = load(tmp_path / "config.yaml")
    assert again.tree == config.tree
    assert again.digest() == config.digest()
    assert config.warnings == ()


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_its_head_has_the_command_that_runs_it(path) -> None:
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines(path)))
    commands = [line.split() for line in head if "train_net.py" in line]
    assert [words[1:4] for words in commands] == [
        ["tools/train_net.py", "--config-file", name(path)]
    ]
    if path in CIFAR100:
        assert [words[4:] for words in commands] == [["DATASET.DOWNLOAD", "true"]]


@pytest.mark.parametrize("path", CIFAR100, ids=name)
def test_a_recipe_is_short(path) -> None:
    assert 4 <= len(lines(path)) <= 8
    commands = [line for line in lines(path) if line.startswith("#   tools/")]  # stay one line
    assert max(len(line) for line in lines(path) if line not in commands) <= 100


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_a_pairs_folder_is_named_after_its_networks(pair) -> None:
    tree = load(pair / "kd.yaml").tree
    assert pair.name == f"{tree.TEACHER.NAME}_{tree.STUDENT.NAME}"
    bases = {file.name: yaml.safe_load(file.read_text())["_BASE_"] for file in pair.glob("*.yaml")}
    assert bases.pop("student.yaml") == "../base.yaml"
    assert bases.pop("base.yaml") == "student.yaml"
    assert set(bases.values()) == {"base.yaml"}


@pytest.mark.parametrize(
    ("last", "networks", "seeds"),
    [
        ("born_again/generation_3", ["wrn_40_2"] * 4, [3, 2, 1, 0]),
        ("assistant/resnet110_resnet56_resnet20", ["resnet20", "resnet56", "resnet110"], [0] * 3),
    ],
)
def test_a_chain_of_recipes_leads_to_the_first_teacher(last, networks, seeds) -> None:
    """No network may begin as its teacher began: the same network has another seed."""
    chain = [load(ROOT / f"configs/cifar100/{last}.yaml")]
    while "TEACHER.CONFIG" in chain[-1].recipes:
        chain.append(chain[-1].recipes["TEACHER.CONFIG"])
    assert [config.tree.STUDENT.NAME for config in chain] == networks
    assert [config.tree.SEED for config in chain] == seeds


@pytest.mark.parametrize("path", CIFAR100, ids=name)
def test_no_key_repeats_what_holds_without_it(path, copied) -> None:
    """A config without one of its keys is another config, or none."""
    file = copied / name(path)
    text = file.read_text()
    digest = load(file).digest()
    for key in keys(yaml.safe_load(text)):
        less = yaml.safe_load(text)
        branch = functools.reduce(dict.__getitem__, key[:-1], less)
        del branch[key[-1]]
        file.write_text(yaml.safe_dump(less))
        try:
            assert load(file).digest() != digest, ".".join(key)
        except ConfigError:
            pass
        finally:
            file.write_text(text)


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A folder with configs/ that may be written to."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "configs", folder / "configs")
    return folder


def keys(branch: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The paths to the values of a file; an empty mapping names a part, and has none."""
    for key, value in branch.items():
        if isinstance(value, dict):
            yield from keys(value, *above, key)
        elif key != "_BASE_":
            yield (*above, key)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("path", CIFAR100, ids=name)
def test_it_trains_for_a_step_in_each_of_its_phases(path, tmp_path) -> None:
    """Every term that is on is computed, the loss is finite, the student moves."""
    config = load(path, TINY)
    trainer = tiny_trainer(config, tmp_path)
    terms = {key: node for key, node in config.tree.LOSS.items() if node is not None}
    epochs = {0, *(int(node.START) for node in terms.values())}
    for epoch in sorted(epochs):
        on = {k for k, node in terms.items() if node.START <= epoch < (node.STOP or epoch + 1)}
        weight = next(trainer.model.student.parameters())
        before = weight.detach().clone()
        views = any("views" in term.needs for term in trainer.model.terms)
        trainer.train_step(next(trainer.train_loader.train(epoch, 2, views=views)))
        assert {key.removeprefix("teacher/") for key in trainer.terms} == on
        assert all(torch.isfinite(value) for value in (trainer.loss, *trainer.terms.values()))
        assert not torch.equal(weight, before)


def tiny_trainer(config: Config, folder: Path) -> Trainer:
    """On 36 drawn images and freshly drawn networks."""
    data = build.build_data(config, torch.device("cpu"))
    networks = {
        branch: copy.deepcopy(drawn(config.tree[branch].NAME, options(config, branch)))
        for branch in ("STUDENT", *teachers_of(config.tree))
        if config.tree[branch].NAME
    }
    return build.build_trainer(config, data, networks.pop("STUDENT"), networks, folder)


def options(config: Config, branch: str) -> tuple[tuple[str, object], ...]:
    node = config.tree[branch]
    return tuple(build.options_of(BACKBONES, node.NAME, node).items())


@functools.cache
def drawn(name: str, options: tuple[tuple[str, object], ...]) -> Backbone:
    """A network for the 36 classes; every recipe gets a copy, as drawing a large one takes long."""
    backbone = BACKBONES[name](36, **dict(options))
    backbone.probe()
    return backbone
