import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdframe.registry import HOOKS


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_terms_lr_and_validation_are_curves(trainer, tmp_path) -> None:
    trainer.train([HOOKS["tensorboard"](tmp_path, period=6)])
    found = scalars(tmp_path)
    assert found.keys() == {"loss", "loss/cross_entropy", "loss/kd", "lr", "val/top1", "val/nll"}
    assert found["loss/cross_entropy"] == [
        (6, pytest.approx(1 / 6)),
        (12, pytest.approx(1 / 12)),
    ]
    assert found["val/top1"] == [(4, 20.0), (8, 40.0), (12, 60.0)]
    assert [path.name[:19] for path in tmp_path.iterdir()] == ["events.out.tfevents"]


def test_a_resumed_run_shows_every_step_once(trainer, tmp_path, killed) -> None:
    hook = HOOKS["tensorboard"](tmp_path, period=1)
    with pytest.raises(killed):
        trainer.train([hook], killed_at=7)
    hook.writer.close()
    trainer.resume_at(5).train([HOOKS["tensorboard"](tmp_path, period=1)])
    assert [step for step, _ in scalars(tmp_path)["loss"]] == list(range(1, 13))


def test_an_epoch_is_on_disk_when_it_ends(trainer, tmp_path, killed) -> None:
    hook = HOOKS["tensorboard"](tmp_path)
    with pytest.raises(killed):
        trainer.train([hook], killed_at=4.5)
    assert scalars(tmp_path)["val/top1"] == [(4, 20.0)]
    hook.writer.close()
