"""The benchmarks run, count what they say, and hand terms what they need."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import BACKBONES, DISTILLERS, NEEDS

ROOT = Path(__file__).parents[1]
SMALL = ["--quick", "--pair", "cifar_resnet-cifar_resnet", "--batch", "4", "--rounds", "2"]


@pytest.fixture
def terms(monkeypatch):
    """The module; from the root, for it isn't installed."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.terms")


@pytest.fixture
def peak(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.memory").Peak


def test_the_command_prints_a_terms_share_of_a_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.terms", *SMALL, "--device", "cpu", "kd"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("kd ")]
    milliseconds, share, low, _, high, _ = row[1:]
    step = float(next(line for line in lines if line.startswith("a step")).split()[-2])
    assert 0 < float(milliseconds) < 0.15 * step
    assert float(share.strip("%")) == pytest.approx(100 * float(milliseconds) / step, rel=0.1)
    assert float(low.strip("%")) <= float(high.strip("%"))
    assert lines[-1] == "above 15% of a step: none"


def test_a_term_above_the_limit_is_exit_code_1_unless_it_may_be(terms, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["terms", *SMALL, "--device", "cpu", "kd"])
    monkeypatch.setattr(terms, "LIMIT", 0.0)
    assert terms.main() == 1
    assert capsys.readouterr().out.endswith("above 0% of a step: kd\n")
    monkeypatch.setattr(terms, "DEARER", {"kd": "it must be"})
    assert terms.main() == 0
    assert (
        "dearer by definition: kd, it must be\nabove 0% of a step: none\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["kdd"], "distillers has no 'kdd'."),
        (["--batch", "1"], "--batch takes 2 or more"),
        (["--pair", "cifar_resnet"], "--pair TEACHER-STUDENT"),
    ],
)
def test_wrong_words_are_exit_code_2(terms, monkeypatch, capsys, words, answer) -> None:
    monkeypatch.setattr(sys, "argv", ["terms", *SMALL, *words])
    with pytest.raises(SystemExit, match="2"):
        terms.main()
    assert answer in capsys.readouterr().err


def test_a_term_is_handed_what_it_needs(terms, monkeypatch) -> None:
    seen = {}

    class Everything(nn.Module):
        def __init__(self, student: Backbone, teacher: Backbone) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            assert not any(p.requires_grad for p in teacher.parameters())

        def set_labels(self, labels: Tensor) -> None:
            seen["labels"] = labels

        def prepare(self, batches) -> None:
            seen["prepared"] = [
                (len(t), len(b.image)) for epoch in (0, 1) for t, b in batches(epoch)
            ]

        def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
            seen["student"], seen["teacher"], seen["batch"] = student, teacher, batch
            return self.scale * student.logits.square().mean()

    list(DISTILLERS)
    monkeypatch.setattr(DISTILLERS, "_parts", {**DISTILLERS._parts, "everything": Everything})
    monkeypatch.setattr(DISTILLERS, "_needs", {**DISTILLERS._needs, "everything": tuple(NEEDS)})
    networks = [BACKBONES["cifar_resnet"](100, depth=8, width=2) for _ in range(2)]
    terms.Given(*networks, images=3, device=torch.device("cpu")).term("everything")()
    student, teacher, batch = seen["student"], seen["teacher"], seen["batch"]
    assert [t.shape for t in (seen["labels"], batch.image)] == [(50_000,), (6, 3, 32, 32)]
    assert batch.item.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(batch.target, seen["labels"][batch.item])
    assert seen["prepared"] == [(2, 6), (2, 6)]
    assert [len(each.logits) for each in (student, *teacher)] == [6, 6, 6]
    assert all(t.is_leaf for t in (student.logits, student.embedding, *student.features))
    assert student.logits.grad is not None
    assert teacher[0].logits.grad_fn is None


def test_peak_counts_new_storages_once_and_while_they_live(peak) -> None:
    """1,000 float32 are 4,000 bytes."""
    x = torch.ones(1000)
    with peak() as seen:
        view = x.view(10, 100)
        assert seen.bytes == 0
        y = view * 2
        z = y.T
        assert (seen.bytes, seen.live) == (4000, 4000)
        del y
        assert seen.live == 4000  # z is a view of it
        w = x + 1
        del w, z
        assert (seen.bytes, seen.live) == (8000, 0)


def test_peak_counts_what_backward_makes_and_keeps(peak) -> None:
    x = torch.ones(1000, requires_grad=True)
    with peak() as seen:
        y = x.square()
        y.sum().backward()
    assert x.grad is not None
    assert seen.bytes >= 8000
    assert seen.live in range(8000, 8009)
