import math

import pytest
import torch

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

cross_entropy = DISTILLERS["cross_entropy"]


def output(*logits: list[float]) -> Output:
    return Output(torch.tensor(logits), torch.empty(len(logits), 0), [])


def batch(*target: int) -> Batch:
    return Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)


def test_cross_entropy_by_hand() -> None:
    """Logits (log 3, 0) are the probabilities (3/4, 1/4)."""
    loss = cross_entropy(output([math.log(3), 0.0], [math.log(3), 0.0]), None, batch(0, 1))
    torch.testing.assert_close(loss, torch.tensor((math.log(4 / 3) + math.log(4)) / 2))


def test_smoothing_shares_out_a_part_of_the_label_evenly() -> None:
    """With e = 0.2 and two classes, q is (0.9, 0.1)."""
    loss = cross_entropy(output([math.log(3), 0.0]), None, batch(0), label_smoothing=0.2)
    torch.testing.assert_close(loss, torch.tensor(0.9 * math.log(4 / 3) + 0.1 * math.log(4)))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_smoothing_outside_0_to_1_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing takes .* not {wrong}"):
        cross_entropy(output([1.0, 0.0]), None, batch(0), label_smoothing=wrong)
