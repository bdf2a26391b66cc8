"""Stages of two networks side by side, and which of them a term should pair."""

import math
import os
import runpy
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn

from kdframe import build, build_loss, exit_codes
from kdframe.backbones import Backbone, Output
from kdframe.config import load
from kdframe.registry import BACKBONES
from kdframe.reports.taps import Tap, Taps, as_markdown, as_yaml, proposed, taps

ROOT = Path(__file__).parents[2]
TOOL = str(ROOT / "tools" / "list_taps.py")
VIT = [8] * 12


def network(strides: list[float]) -> Taps:
    return Taps([Tap((1, 1, 1), stride, 0) for stride in strides], 0, 0)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_shape_stride_and_parameters_of_a_resnets_stages_by_hand() -> None:
    """Two 3x3 convolutions and two BatchNorms a block; a 1x1 shortcut where the width changes."""
    found = taps(BACKBONES["cifar_resnet"](10, depth=8, width=4))
    stem = 3 * 4 * 9 + 2 * 4
    one = 4 * 4 * 9 + 2 * 4 + 4 * 4 * 9 + 2 * 4
    two = 4 * 8 * 9 + 2 * 8 + 8 * 8 * 9 + 2 * 8 + 4 * 8 + 2 * 8
    three = 8 * 16 * 9 + 2 * 16 + 16 * 16 * 9 + 2 * 16 + 8 * 16 + 2 * 16
    assert found.stages == [
        Tap((4, 32, 32), 1.0, stem),
        Tap((4, 32, 32), 1.0, one),
        Tap((8, 16, 16), 2.0, two),
        Tap((16, 8, 8), 4.0, three),
    ]
    assert (found.head, found.unused) == (16 * 10 + 10, 0)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_stages_head_and_rest_add_up_to_the_network(name) -> None:
    backbone = BACKBONES[name](7)
    assert taps(backbone).parameters == count(backbone)
    assert taps(backbone).unused == 0


def test_a_vits_first_stage_holds_its_embedding_and_first_block() -> None:
    backbone = BACKBONES["test_vit"](7)
    vit, found = backbone.network, taps(backbone)
    first = count(vit.patch_embed) + vit.pos_embed.numel() + vit.cls_token.numel()
    assert [tap.parameters for tap in found.stages] == [
        first + count(vit.blocks[0]),
        *map(count, vit.blocks[1:]),
    ]
    assert found.head == count(vit.norm) + count(vit.head)


def test_frozen_and_idle_parameters_are_counted_and_the_network_stays_as_it_was() -> None:
    def answer(network, image):
        feature = network["stem"](image)
        embedding = feature.mean((2, 3))
        return Output(network["head"](embedding), embedding, [feature])

    layers = {"stem": nn.Conv2d(3, 2, 1), "head": nn.Linear(2, 5), "idle": nn.Linear(2, 2)}
    backbone = Backbone(nn.ModuleDict(layers), answer, (3, 4, 4)).train()
    backbone.network["stem"].requires_grad_(False)
    assert taps(backbone) == Taps([Tap((2, 4, 4), 1.0, 8)], 15, 6)
    assert backbone.training
    assert not backbone.network["stem"].weight.requires_grad
    assert "| unused |" in as_markdown({"student": taps(backbone)}, (3, 4, 4))


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ([1, 1, 2, 4], [1, 1, 2, 4], [(1, 1), (2, 2), (3, 3)]),
        ([1, 1, 2, 4, 8], [2, 4, 8, 16, 32], [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ([1, 1, 2, 4], [1, 1, 2, 4, 8], [(1, 1), (2, 2), (3, 3)]),
        ([2, 4, 8, 16, 32], [4, 8, 16, 32], [(2, 1), (3, 2), (4, 3)]),
        (
            [1, 1, 2, 4],
            [1, 1, 1, 2, 2, 4],
            [(1, 2), (2, 3), (3, 5)],
        ),  # depths: .33 and .4, .67 and .6
        ([1, 1, 2, 4, 8], VIT, [(1, 2), (2, 5), (3, 8), (4, 11)]),  # quarters of 12 blocks
        (VIT, [1, 1, 2, 4, 8], [(2, 1), (5, 2), (8, 3), (11, 4)]),
        ([8] * 6, VIT, [(1, 3), (2, 5), (3, 7), (4, 9), (5, 11)]),
        (VIT, VIT, [(i, i) for i in range(1, 12)]),
        ([4], VIT, []),
        ([1, 2], [4], []),
    ],
)
def test_the_pairs_of_known_networks(student, teacher, pairs) -> None:
    assert proposed(network(student), network(teacher)) == pairs


@pytest.mark.parametrize("seed", range(30))
def test_no_other_rising_choice_of_partners_differs_less(seed) -> None:
    """By trying every one of them."""
    draw = torch.Generator().manual_seed(seed)

    def strides() -> list[float]:
        length = int(torch.randint(2, 8, (), generator=draw))
        if torch.rand((), generator=draw) < 0.3:
            return [8.0] * length
        return [2.0**i for i in sorted(torch.randint(0, 6, (length,), generator=draw).tolist())]

    mine, theirs = strides(), strides()

    def depth(of: list[float], i: int) -> float:
        return (i + 1) / len(of) if len(set(of)) == 1 else i / (len(of) - 1)

    def difference(pairs: list[tuple[int, int]]) -> tuple[float, float]:
        far = sum(abs(math.log2(mine[i] / theirs[j])) for i, j in pairs)
        plain = 1 in (len(set(mine)), len(set(theirs)))
        return (
            0.0 if plain else far,
            sum(abs(depth(mine, i) - depth(theirs, j)) for i, j in pairs),
        )

    k = min(len(mine), len(theirs)) - 1
    every = [
        list(zip(a, b, strict=True))
        for a in combinations(range(1, len(mine)), k)
        for b in combinations(range(1, len(theirs)), k)
    ]
    found = proposed(network(mine), network(theirs))
    assert found in every
    assert difference(found) == pytest.approx(min(map(difference, every)))


def test_yaml_names_a_stage_once_where_both_have_its_number() -> None:
    assert as_yaml([(1, 1), (2, 2)]) == "LOSS: {feature: {STAGES: [1, 2]}}"
    assert as_yaml([(1, 1), (2, 3)]) == "LOSS: {feature: {STAGES: [1, [2, 3]]}}"


@pytest.fixture
def list_taps(monkeypatch, capsys):
    """The script's exit code, and what it prints on stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [TOOL, *words])
        code = exit_codes.answered(runpy.run_path(TOOL)["main"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


NETWORKS = (
    "DATASET: {NAME: glyphs, TRAIN: 36, TEST: 36}\n"
    "STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4}\n"
    "TEACHER: {NAME: test_vit, IMAGE_SIZE: 32, PATCH_SIZE: 8, WEIGHTS: random}\n"
)


def test_the_tools_yaml_pasted_into_the_config_builds_a_term(tmp_path, list_taps) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"{NETWORKS}LOSS: {{kd: {{}}}}\n")
    code, out, err = list_taps("--config-file", str(config))
    assert (code, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    table = {row[0]: row[1:] for row in rows if row}
    assert table["3"][:3] == ["16x8x8", "4", f"{8 * 16 * 9 + 16 * 16 * 9 + 8 * 16 + 96:,}"]
    assert table["5"][:5] == ["", "", "", "64x4x4", "8"]
    yaml = out.splitlines()[-1].strip()
    assert yaml == "LOSS: {feature: {STAGES: [1, [2, 3], [3, 5]]}}"
    config.write_text(f"{NETWORKS}{yaml}\n")
    pasted = load(config)
    networks = [
        build.build_backbone(pasted, branch, 36, (3, 32, 32)) for branch in ("STUDENT", "TEACHER")
    ]
    (term,) = build_loss.build_terms(pasted, networks[0], networks[1:], list)
    assert [tuple(r.weight.shape[:2]) for r in term.loss.adapters] == [(64, 4), (64, 8), (64, 16)]


def test_without_a_teacher_the_student_is_shown_alone_and_a_size_spares_the_dataset(
    tmp_path, list_taps
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"DATASET: {{NAME: cifar100, ROOT: {tmp_path}}}\n"
        "STUDENT: {NAME: cifar_resnet, DEPTH: 8}\nLOSS: {cross_entropy: {}}\n"
    )
    code, out, err = list_taps("--config-file", str(config), "--size", "64", "--classes", "100")
    assert (code, err) == (0, "")
    assert "teacher" not in out
    assert "STAGES" not in out
    assert "64x16x16" in out
    assert f"{100 * 65:,}" in out


def test_help_and_wrong_words_are_answered_in_a_line_without_torch(tmp_path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("SOLVER: {EPOCHS: many}\n")
    file = ["--config-file", str(config)]
    for words, code in (
        (["-h"], 0),
        (file, 2),
        ([*file, "--size", "32"], 2),
        ([*file, "--size", "0", "--classes", "10"], 2),
    ):
        program = (
            "import runpy, sys\n"
            f"sys.argv = {[TOOL, *words]}\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "finally: assert 'torch' not in sys.modules\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert ended.returncode == code
        assert ended.stderr.count("\n") == (code == 2)
