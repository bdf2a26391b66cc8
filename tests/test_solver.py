"""Learning rates and optimizers against arithmetic."""

import math

import pytest
import torch

from kdframe.solver import make_optimizer, schedule


def rates(kind: str, warmup: float = 0.0) -> list[float]:
    rate = schedule(kind, 0.4, epochs=10, warmup=warmup, steps=(5, 8), gamma=0.1)
    return [rate(epoch / 10) for epoch in range(10)]


def test_steps_multiply_the_rate() -> None:
    assert rates("steps") == pytest.approx([0.4] * 5 + [0.04] * 3 + [0.004] * 2)
    assert rates("steps", 2.0)[2:] == rates("steps")[2:]


def test_steps_after_the_end_do_not_come() -> None:
    some = schedule("steps", 1.0, epochs=10, warmup=0, steps=(5, 10, 20), gamma=0.1)
    assert [some(t) for t in (0.0, 0.49, 0.51, 0.99)] == pytest.approx([1, 1, 0.1, 0.1])
    none = schedule("steps", 1.0, epochs=3, warmup=1, steps=(3,), gamma=0.1)
    assert none(0.99) == 1


def test_the_cosine_falls_to_zero() -> None:
    expected = [0.2 * (1 + math.cos(math.pi * epoch / 10)) for epoch in range(10)]
    assert rates("cosine") == pytest.approx(expected)


def test_a_warmup_grows_linearly_and_the_cosine_begins_after_it() -> None:
    warm = rates("cosine", 2.0)
    assert warm[:2] == pytest.approx([0.0004, 0.0004 + 0.5 * (0.4 - 0.0004)])
    expected = [0.2 * (1 + math.cos(math.pi * epoch / 8)) for epoch in range(8)]
    assert warm[2:] == pytest.approx(expected)


def test_constant_is_constant() -> None:
    assert rates("constant") == [0.4] * 10


def test_a_warmup_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="less than EPOCHS, 10, not 10"):
        rates("cosine", 10.0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_moves_as_its_equation_says(nesterov) -> None:
    """v <- mu v + g + wd w;  w <- w - lr (g + wd w + mu v if nesterov else v)."""
    w = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer(
        "sgd", [w], lr=0.1, weight_decay=0.5, momentum=0.9, nesterov=nesterov
    )
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        w.grad = torch.tensor([gradient])
        optimizer.step()
        total = gradient + 0.5 * value
        velocity = 0.9 * velocity + total
        value -= 0.1 * (total + 0.9 * velocity if nesterov else velocity)
        assert w.item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_a_gradient_may_come_later_than_the_others(name) -> None:
    """As where a term has a START: the weight then moves as if its training began there."""
    early, late, alone = (torch.nn.Parameter(torch.tensor([2.0])) for _ in range(3))
    options = {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.9, "nesterov": False}
    both, one = (make_optimizer(name, ws, **options) for ws in ([early, late], [alone]))
    for step, gradient in enumerate((1.0, -3.0, 0.5, 2.0)):
        early.grad = torch.tensor([gradient])
        if step >= 2:
            late.grad, alone.grad = torch.tensor([gradient]), torch.tensor([gradient])
            one.step()
        both.step()
        assert (late.item() == 2.0) is (step < 2)
    torch.testing.assert_close(late, alone)


def test_a_gamma_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"GAMMA 1e\+308, 2 times, is no number"):
        schedule("steps", 0.1, epochs=3, warmup=0, steps=[1, 2], gamma=1e308)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="adamm not found"):
        make_optimizer("adamm", [], lr=1, weight_decay=0, momentum=0, nesterov=False)


@pytest.mark.parametrize("name", ["adahessian", "fusedadam"])
def test_an_optimizer_that_cannot_work_here_is_refused(name) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=f"{name} (needs second|can't work here: )"):
        make_optimizer(name, [weight], lr=1, weight_decay=0, momentum=0, nesterov=False)
