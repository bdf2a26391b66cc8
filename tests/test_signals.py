"""What a flag says after which signals."""

import os
import signal

import pytest

from kdframe.signals import Signals, Stopped, stop_if


def sent(*numbers: int) -> int:
    with Signals() as signals:
        for number in numbers:
            os.kill(os.getpid(), number)
        return signals.asked()


def test_the_request_to_stop_wins_over_the_one_to_save() -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):
        assert sent(signal.SIGUSR1, stop) == sent(stop, signal.SIGUSR1) == stop


def test_a_save_is_asked_for_once_and_a_stop_until_it_is_done() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [signals.asked(), signals.asked()] == [signal.SIGUSR1, 0]
        os.kill(os.getpid(), signal.SIGTERM)
        assert [signals.asked(), signals.asked()] == [signal.SIGTERM, signal.SIGTERM]


@pytest.mark.parametrize("between", [(), (signal.SIGTERM,), (signal.SIGUSR1,)])
def test_a_second_sigint_leaves_at_once_whatever_came_between(between) -> None:
    with pytest.raises(KeyboardInterrupt):
        sent(signal.SIGINT, *between, signal.SIGINT)


def test_what_was_set_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    sent()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_with_nothing_to_save_says_so_and_has_the_signals_exit_code() -> None:
    stop_if(0)
    stop_if(signal.SIGUSR1)
    with pytest.raises(Stopped, match="no step that could be lost") as error:
        stop_if(signal.SIGINT)
    assert error.value.exit_code == 130
