"""The loops that are compared do the same work, and the table says what was measured."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
PAIR = "resnet14-resnet8"
WORDS = ["--quick", "--pair", PAIR, "--device", "cpu", "--rounds", "1"]


@pytest.fixture
def module(monkeypatch):
    """A benchmark's module by its name; from the root, for it isn't installed."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def asked(module, tmp_path):
    return module("sections").Asked(PAIR, 8, 1, CPU, tmp_path, True)


def test_both_loops_have_the_same_loss(module, asked, monkeypatch) -> None:
    """The first batch's, before anything is learned."""
    trainer, plain = asked.trainer, asked.plain
    batch = next(trainer.train_loader.train(0, 8))
    monkeypatch.setattr(plain, "batches", lambda steps: [(batch.image.contiguous(), batch.target)])
    by_hand = plain.train(1)
    trainer.model.train()
    trainer.train_step(batch)
    assert by_hand == pytest.approx(trainer.loss.item(), rel=1e-4)
    for ours, theirs in zip(
        trainer.model.student.parameters(), plain.student.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_loops_steps_end_with_the_one_that_hooks_write_in(module, asked) -> None:
    trainer = asked.trainer
    module("loops").last_steps(trainer, 2)()
    (line,) = (asked.ready.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == trainer.step == module("loops").HOOKED
    assert trainer.images == 16


def test_phases_are_all_there_and_add_up(module, asked) -> None:
    phases, trainer = module("phases"), asked.trainer
    before = torch.Tensor.backward
    work = module("loops").last_steps(trainer, 2)
    work()
    shares = phases.Phases(CPU).shares(trainer, work)
    assert tuple(shares) == phases.PHASES
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    assert torch.Tensor.backward is before  # nothing stays changed
    assert "ask" not in vars(trainer.model)


def test_taps_change_no_gradient_that_they_do_not_add_to(module, asked) -> None:
    taps = module("loops").Taps(asked.bound)
    taps.without()
    before = [p.grad.clone() for p in asked.bound.student.parameters()]
    for gradient in taps.gradients:
        gradient.zero_()
    taps.used()
    assert len(taps.gradients) == 4
    for p, grad in zip(asked.bound.student.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_a_peak_is_counted_in_flops(module) -> None:
    (product, count), (convolution, other) = module("peak").works(CPU, torch.float32).values()
    assert (count, other) == (2 * 1024**3, 2 * (3 * 3 * 64) * (64 * 32 * 32) * 32)
    product()
    convolution()


def test_a_row_is_held_to_its_target(module) -> None:
    rows = module("rows")
    times = {"ours": [1.0, 2.0, 1.0], "theirs": [2.0, 2.0, 3.0]}  # 2, 1, 3 times as fast
    gain = rows.row(times, "ours", "theirs", rows.at_least(2), gain=True)
    cost = rows.row(times, "ours", "theirs", rows.at_most(0.4))
    assert gain.cells()[1:] == [
        "1000 ms", "1000 - 2000", "3", "2", "1 - 3", "theirs", ">= 2", "met",
    ]  # fmt: skip
    assert (gain.missed, cost.missed) == (False, True)
    assert rows.Row("x", note="not there yet").cells() == ["x", *[""] * 7, "not there yet"]
    assert gain.as_dict()["ratios"] == [2, 1, 3]


def test_a_missed_target_is_exit_code_1(module, monkeypatch, capsys) -> None:
    run, rows = module("run"), module("rows")
    monkeypatch.setattr(sys, "argv", ["run", *WORDS, "--only", "data"])
    late = rows.Row("late", [1.0], "s", [2.0], "early", rows.at_most(1))
    for row, code, said in ((late, 1, "late"), (late._replace(ratio=[0.5]), 0, "none")):
        monkeypatch.setitem(run.sections.ALL, "data", lambda asked, row=row: [row])
        assert run.main() == code
        assert capsys.readouterr().out.endswith(f"targets missed: {said}\n")


def test_the_command_prints_a_table_and_writes_json(tmp_path) -> None:
    file = tmp_path / "run.json"
    done = command("-m", "benchmarks.run", *WORDS, "--only", "data", "memory", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(file.read_text())
    assert (content["pair"], content["batch"], content["threads"]) == (PAIR, 8, 1)
    names = [row["name"] for row in content["rows"]]
    assert names == ["data, Pillow", "data, kdframe", "memory, hand-written", "memory, kdframe"]
    assert all(f"| {name} " in done.stdout for name in names)


def test_the_first_steps_parts_are_told(module) -> None:
    start = module("start")
    parts = start.first_step(PAIR, 8, "cpu")
    assert tuple(parts) == start.PARTS
    assert all(seconds > 0 for seconds in parts.values())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--pair", "resnet8"], "--pair TEACHER-STUDENT"),
        (["--pair", "resnet8-resnet9"], "backbones has no 'resnet9'."),
        (["--batch", "4"], "--batch takes 8 or more"),
    ],
)
def test_wrong_words_are_exit_code_2(module, monkeypatch, capsys, words, answer) -> None:
    monkeypatch.setattr(sys, "argv", ["run", *words])
    with pytest.raises(SystemExit, match="2"):
        module("run").main()
    assert answer in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so() -> None:
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no GPU" in done.stdout


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """This Python with these words, from the root."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
