import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

USKD = DISTILLERS["uskd"]


def call(loss, z: Tensor, f: Tensor, target: list[int]) -> Tensor:
    """``f`` is the map of the stage before the last."""
    batch = Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)
    return loss(Output(z, torch.empty(0), [torch.empty(0), f, torch.empty(0)]), None, batch)


def spread(z: list[float]) -> list[float]:
    powers = [math.exp(v) for v in z]
    return [v / sum(powers) for v in powers]


def test_uskd_by_hand(backbone) -> None:
    """One image: its label's factor is S^2 + 1 - S^2 = 1, so target is -log .5.

    S = (.5, .3, .2) and W even: the label is ranked first, the others 1/2 and 1/3, so 3 and 2 of 5,
    and their shares of S are so, too.
    """
    loss = USKD(backbone(num_classes=3), None, alpha=2.0, beta=3.0, mu=4.0)
    torch.nn.init.zeros_(loss.classifier.weight)
    torch.nn.init.zeros_(loss.classifier.bias)
    z = torch.tensor([[0.5, 0.3, 0.2]]).log()
    others = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    expected = 2 * math.log(2) + 3 * others + 4 * math.log(3)
    assert call(loss, z, torch.randn(1, 3, 4, 4), [0]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_uskd_is_the_naive_sum(backbone, variant) -> None:
    options = {"alpha": 0.7, "beta": 0.3, "mu": 0.2}
    loss = USKD(backbone(), None, variant=variant, **options).double()
    z, f = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, 4, 4, dtype=torch.float64)
    labels = [0, 4, 2, 2, 1, 3, 3, 0]
    weak = f.mean((2, 3)) @ loss.classifier.weight.T + loss.classifier.bias
    mean = sum(spread(row)[y] ** 2 for row, y in zip(z.tolist(), labels, strict=True)) / 8
    total = 0.0
    for row, w, y in zip(z.tolist(), weak.tolist(), labels, strict=True):
        S, W = spread(row), spread(w)
        total -= 0.7 * (S[y] ** 2 + 1 - mean) * math.log(S[y])
        U = [math.log(v) for v in S] if variant == "code" else S
        R = [W[k] / (1 - W[y] + 1e-6) + U[k] / (1 - U[y] + 1e-6) for k in range(5)]
        others = [k for k in range(5) if k != y]
        law = {k: 1 / (1 + sum(r > R[k] for r in R)) for k in others}
        total -= 0.3 * sum(law[k] / sum(law.values()) * math.log(S[k] / (1 - S[y])) for k in others)
        total -= 0.2 * sum((0.02 + 0.9 * (k == y)) * math.log(W[k]) for k in range(5))
    assert call(loss, z, f, labels).item() == pytest.approx(total / 8)


def test_the_variants_rank_differently(backbone) -> None:
    losses = []
    for variant in ("code", "paper"):
        torch.manual_seed(0)
        loss = USKD(backbone(), None, variant=variant)
        losses.append(call(loss, torch.randn(9, 5), torch.randn(9, 3, 4, 4), [0] * 9).item())
    assert losses[0] != losses[1]


def test_a_surer_image_weighs_more_than_another_and_all_together_1(backbone) -> None:
    loss = USKD(backbone(), None, beta=0.0, mu=0.0)
    z = torch.tensor([[4.0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0]], requires_grad=True)
    call(loss, z, torch.randn(2, 3, 4, 4), [0, 0]).backward()
    S = z.detach().softmax(dim=1)[:, 0]
    weights = -2 * z.grad[:, 0] / (1 - S)  # d(-log S_y)/dz_y is S_y - 1, and two images a mean
    torch.testing.assert_close(weights, 1 + S**2 - (S**2).mean())
    assert weights.mean().item() == pytest.approx(1)


def test_a_stage_is_chosen_by_its_number(backbone) -> None:
    assert USKD(backbone((2, 3, 4)), None).classifier.in_features == 3
    assert USKD(backbone((2, 3, 4)), None, stage=0).classifier.in_features == 2


WRONG = [
    ({"alpha": -1.0}, r"alpha takes a number from 0, not -1\.0"),
    ({"beta": math.nan}, "beta takes a number from 0, not nan"),
    ({"mu": -0.1}, r"mu takes a number from 0, not -0\.1"),
    ({"variant": "cod"}, r"variant takes code or paper, not 'cod'\. Did you mean code"),
    ({"stage": 7}, r"no stage \[7\]"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        USKD(backbone(), None, **wrong)
