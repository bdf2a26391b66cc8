"""Ratios of speed that hold on a busy machine too; the others are ``python -m benchmarks.run``'s.

CPU seconds of one thread, in turns.  The targets are the benchmark's; a tolerance is above what was
seen in ten runs on two cores with eight other busy processes.
"""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
ROUNDS = 5
LOOP, TAPS = 0.08, 0.06  # tolerances
DATA = 0.5  # of the target, which is for batches of 64; these are of 16

pytestmark = pytest.mark.skipif(os.name != "posix", reason="CPU seconds as Unix counts them")


@pytest.fixture(scope="module")
def modules():
    """The benchmarks; from the root, for they aren't installed."""
    sys.path.insert(0, str(ROOT))
    names = ("sections", "clock", "loops", "start")
    yield {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def asked(modules, tmp_path_factory):
    """A pair whose step is short, but not so short that Python's own time counts."""
    folder = tmp_path_factory.mktemp("speed")
    return modules["sections"].Asked("resnet20-resnet8x4", 16, ROUNDS, CPU, folder, True)


@pytest.fixture(scope="module")
def least(modules, asked):
    """The seconds of a step, in the fastest round: what disturbs one only makes it longer."""
    last_steps, works = modules["loops"].last_steps, {}
    works["bound"] = asked.bound.live(1)
    works["kdframe"] = last_steps(asked.trainer, 1)
    works["hand-written"] = lambda: asked.plain.train(1)
    works["student alone"] = asked.bound.cached(1)
    if modules["loops"].CACHE:
        cached = asked.prepared(*modules["sections"].CACHED).trainer()
        works["cached"] = last_steps(cached, 1)
    step = modules["loops"].Taps(asked.bound)
    works["without taps"], works["four taps"] = step.without, step.used
    times = modules["clock"].in_turns(works, ROUNDS, CPU)
    return {name: min(seconds) for name, seconds in times.items()}


def test_the_loop_costs_no_more_than_the_networks(least) -> None:
    assert least["kdframe"] / least["bound"] <= 1.03 + LOOP


def test_the_loop_is_faster_than_one_written_by_hand(least) -> None:
    assert least["hand-written"] / least["kdframe"] >= 1.0


def test_with_a_cache_a_step_costs_no_more_than_the_student(least) -> None:
    if "cached" not in least:
        pytest.skip("no TEACHER.CACHE")
    assert least["cached"] / least["student alone"] <= 1.04 + LOOP


def test_four_taps_cost_next_to_nothing(least) -> None:
    assert least["four taps"] / least["without taps"] <= 1.02 + TAPS


def test_a_batch_is_made_much_faster_than_image_by_image(modules, asked) -> None:
    *_, row = modules["sections"].data(asked)
    assert row.name == "data, kdframe"
    assert max(row.ratio) >= 15 * DATA


def test_help_comes_without_torch(modules) -> None:
    start = modules["start"]
    helped = min(start.child_seconds(start.HELP) for _ in range(3))
    assert helped / start.child_seconds(start.TORCH) <= 0.2


def test_a_steps_memory_is_no_more_than_the_hand_written_loops(modules, asked) -> None:
    *_, row = modules["sections"].memories(asked)
    assert row.name == "memory, kdframe"
    assert row.ratio[0] <= 1.0
