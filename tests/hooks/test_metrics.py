import json

import pytest

from kdframe.registry import HOOKS


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_is_written_every_period_and_one_after_every_epoch(trainer, tmp_path) -> None:
    trainer.train([HOOKS["metrics"](tmp_path, period=3)])
    assert [(row["step"], row["epoch"]) for row in lines(tmp_path)] == [
        *[(3, 0.75), (4, 1), (6, 1.5), (8, 2), (9, 2.25)],
        *[(12, 3.0), (12, 3)],
    ]
    assert lines(tmp_path)[2] == {
        "step": 6,
        "epoch": 1.5,
        "loss": pytest.approx(1 / 6 + 0.25),
        "loss/cross_entropy": pytest.approx(1 / 6),
        "loss/kd": 0.25,
        "lr": 0.1 / 6,
    }
    assert lines(tmp_path)[3] == {
        "step": 8,
        "epoch": 2,
        "train/loss": 1.0,
        "train/cross_entropy": 0.5,
        "val/top1": 40.0,
        "val/nll": 0.5,
    }


@pytest.mark.parametrize("killed_at", [0, 1, 3, 4, 4.5, 5, 8, 8.5, 10, 12])
@pytest.mark.parametrize("period", [1, 3, 4])
def test_a_resumed_run_ends_with_the_bytes_of_one_never_interrupted(
    trainer, tmp_path, killed, killed_at, period
) -> None:
    path = tmp_path / "metrics.jsonl"
    trainer.resume_at(0).train([HOOKS["metrics"](tmp_path, period=period)])
    whole = path.read_bytes()
    for step in range(int(killed_at) + 1):  # that any of the checkpoints until then may have
        path.unlink()
        with pytest.raises(killed):
            trainer.resume_at(0).train([HOOKS["metrics"](tmp_path, period=period)], killed_at)
        trainer.resume_at(step).train([HOOKS["metrics"](tmp_path, period=period)])
        assert path.read_bytes() == whole


def test_a_half_written_line_is_cut_off(trainer, tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    trainer.train([HOOKS["metrics"](tmp_path, period=1)])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b'{"step": 6') + 20])
    trainer.resume_at(5).train([HOOKS["metrics"](tmp_path, period=1)])
    assert path.read_bytes() == whole


def test_the_file_is_cut_back_to_what_the_checkpoint_knew_of(trainer, tmp_path) -> None:
    """Whatever stands behind it: lines of another life, or the zeros that a power cut leaves."""
    path = tmp_path / "metrics.jsonl"
    first = HOOKS["metrics"](tmp_path, period=1)
    trainer.train([first])
    whole, state = path.read_bytes(), first.state_dict()
    assert state == {"offset": len(whole)}
    at_6 = {"offset": whole.index(b'{"step": 7')}
    path.write_bytes(whole[: at_6["offset"]] + b"\0" * 4096)
    second = HOOKS["metrics"](tmp_path, period=1)
    second.load_state_dict(at_6)
    trainer.resume_at(6).train([second])
    assert path.read_bytes() == whole


def test_lines_that_are_lost_are_told(trainer, tmp_path, caplog) -> None:
    hook = HOOKS["metrics"](tmp_path, period=1)
    hook.load_state_dict({"offset": 1000})
    trainer.resume_at(6).train([hook])
    assert "metrics.jsonl has lost 1000 bytes since the checkpoint" in caplog.text


def test_a_number_that_is_not_finite_is_null(trainer, tmp_path) -> None:
    hook = HOOKS["metrics"](tmp_path)
    hook.write({"epoch": 1, "val/nll": float("nan"), "val/top1": 2.0, "loss": float("inf")})
    assert lines(tmp_path) == [{"epoch": 1, "val/nll": None, "val/top1": 2.0, "loss": None}]


def test_nothing_but_the_file_is_left(trainer, tmp_path) -> None:
    trainer.train([HOOKS["metrics"](tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("name", ["metrics", "tensorboard", "curves"])
@pytest.mark.parametrize("period", [0, -1])
def test_a_period_of_no_steps_is_refused(tmp_path, name, period) -> None:
    with pytest.raises(ValueError, match=f"above 0, not {period}"):
        HOOKS[name](tmp_path, period=period)
