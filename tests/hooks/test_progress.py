import gc
import io
import logging
import sys
import threading

import pytest

from kdframe.registry import HOOKS

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # a terminal's cursor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_epoch_is_a_line_with_its_numbers(trainer, tmp_path, caplog) -> None:
    with caplog.at_level(logging.INFO, "kdframe"):
        trainer.train([HOOKS["progress"](tmp_path)])
    assert len(caplog.messages) == 3
    assert caplog.messages[1].startswith("epoch 2/3  loss 1  val 40.00 %  lr 0.013  ")
    assert caplog.messages[1].endswith(" images/s")


def test_a_line_names_no_validation_where_there_is_none(trainer, tmp_path, caplog) -> None:
    trainer.validates = False
    with caplog.at_level(logging.INFO, "kdframe"):
        trainer.train([HOOKS["progress"](tmp_path)])
    assert "val" not in caplog.text


def test_images_per_second_is_a_line_s_images_over_its_time(
    trainer, tmp_path, caplog, monkeypatch
) -> None:
    """An epoch of 4 steps of 10 images that takes 2 seconds: 20 images/s."""
    monkeypatch.setattr("kdframe.hooks.progress.time.perf_counter", lambda: 0.5 * trainer.step)
    with caplog.at_level(logging.INFO, "kdframe"):
        trainer.train([HOOKS["progress"](tmp_path)])
    assert [message.split("  ")[-1] for message in caplog.messages] == ["20 images/s"] * 3


def test_only_a_terminal_sees_a_bar(trainer, tmp_path, capsys) -> None:
    trainer.train([HOOKS["progress"](tmp_path)])
    assert capsys.readouterr().out == ""


def test_the_bar_ends_full_and_gives_the_cursor_back(trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    hook = HOOKS["progress"](tmp_path)
    trainer.train([hook])
    assert hook.bar.finished
    assert "epoch" in terminal.getvalue()
    assert terminal.getvalue().count(HIDE) == terminal.getvalue().count(SHOW) == 1
    assert sys.stdout is terminal


def test_a_failed_run_ends_and_gives_the_cursor_back(
    trainer, tmp_path, monkeypatch, killed
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    hooks = [HOOKS["progress"](tmp_path)]
    with pytest.raises(killed):
        trainer.train(hooks, killed_at=7)
    assert SHOW not in terminal.getvalue()
    assert all(t.daemon for t in threading.enumerate() if t is not threading.main_thread())
    hooks.clear()
    gc.collect()
    assert terminal.getvalue().count(SHOW) == 1


def test_the_bar_reads_the_loss_twice_a_second(trainer, tmp_path, monkeypatch) -> None:
    """A step takes .2 s: of twelve, one in three is looked at."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr("kdframe.hooks.progress.time.perf_counter", lambda: 0.2 * trainer.step)
    hook = HOOKS["progress"](tmp_path)
    looks = []
    monkeypatch.setattr(hook.bar, "update", lambda task, **shown: looks.append(shown))
    trainer.train([hook])
    assert [look["completed"] for look in looks] == [3, 6, 9, 12, 12]
    assert looks[1]["description"] == f"{30 / 0.6:.0f} images/s  loss {1 / 6 + 0.25:.4g}"
    assert [look.get("epoch") for look in looks] == ["1/3", "2/3", "3/3", "3/3", None]
