"""Optimizers by timm, learning rates by fvcore."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import timm.optim
import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)


def make_optimizer(
    name: str,
    parameters: Sequence[torch.nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> torch.optim.Optimizer:
    """One of timm's optimizers, fused where torch has that; decay falls on every parameter.

    Raises:
        ValueError: timm has none of that name, or it can't work here.
    """
    if name == "adahessian":
        raise ValueError("adahessian needs second derivatives, which no step computes.")
    if name == "sgd" and not nesterov:
        name = "momentum"  # timm's "sgd" is Nesterov's
    settings: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
    try:
        kind = timm.optim.get_optimizer_class(name, bind_defaults=False)
        fused = "fused" in inspect.signature(kind).parameters
        settings |= {"fused": True} if fused else {}
        made = timm.optim.create_optimizer_v2(parameters, opt=name, **settings)
    except (AssertionError, ImportError, RuntimeError) as error:  # a library or a device it needs
        raise ValueError(f"{name} can't work here: {error}") from error
    optimizer: torch.optim.Optimizer = made
    if fused and momentum and isinstance(optimizer, torch.optim.SGD):
        for parameter in parameters:  # fused, it fails where a gradient comes after the first step
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def schedule(
    kind: str, lr: float, *, epochs: int, warmup: float, steps: Sequence[int], gamma: float
) -> Callable[[float], float]:
    """The learning rate at a fraction of the training, 0 to 1.

    "constant"; "cosine" to 0; "steps": times ``gamma`` from each of these epochs on.  Over the
    first ``warmup`` epochs it grows linearly from a thousandth; the cosine begins after that.

    Raises:
        ValueError: a warmup as long as the training, a gamma that grows beyond all numbers.
    """
    if warmup >= epochs:
        raise ValueError(f"WARMUP_EPOCHS takes less than EPOCHS, {epochs}, not {warmup:g}.")
    after: ParamScheduler
    if kind == "steps":
        steps = [step for step in steps if step < epochs]  # the others come after the end
        try:
            rates = [lr * gamma**i for i in range(len(steps) + 1)]
        except OverflowError as error:
            raise ValueError(f"GAMMA {gamma:g}, {len(steps)} times, is no number.") from error
        after = ConstantParamScheduler(lr)
        if steps:
            after = MultiStepParamScheduler(rates, num_updates=epochs, milestones=steps)
    else:
        after = CosineParamScheduler(lr, 0.0) if kind == "cosine" else ConstantParamScheduler(lr)
    if warmup:
        share = warmup / epochs
        scaling = ["rescaled", "fixed" if kind == "steps" else "rescaled"]
        ramp = LinearParamScheduler(lr / 1000, lr)
        after = CompositeParamScheduler([ramp, after], [share, 1 - share], scaling)
    rate: Callable[[float], float] = after
    return rate
