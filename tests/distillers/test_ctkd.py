import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

CTKD = DISTILLERS["ctkd"]


def outputs(*logits: Tensor) -> list[Output]:
    return [Output(z, torch.empty(len(z), 0), []) for z in logits]


def at_epoch(epoch: float) -> Batch:
    return Batch(torch.empty(0), torch.empty(0), torch.empty(0), epoch)


def test_ctkd_by_hand(backbone) -> None:
    """At theta = 0 T is 1 + 2/2: the teacher's (2, 0) gives p = e/(e + 1), the student's 1/2."""
    ctkd = CTKD(backbone(), backbone(), t_range=2.0)
    torch.nn.init.zeros_(ctkd.theta)
    p = math.e / (math.e + 1)
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    loss = ctkd(*outputs(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])), at_epoch(0.0))
    torch.testing.assert_close(loss, torch.tensor(4 * kl))


@pytest.mark.parametrize("epoch", [0.0, 3.7, 100.0])
def test_it_is_kd_at_its_temperature_which_starts_at_15_62_whatever_the_epoch(
    backbone, epoch
) -> None:
    pair = outputs(*torch.randn(2, 4, 5, dtype=torch.float64))
    T = 1 + 20 / (1 + math.exp(-1))
    assert pytest.approx(15.62, abs=0.005) == T
    loss = CTKD(backbone(), backbone()).double()(*pair, at_epoch(epoch))
    torch.testing.assert_close(loss, DISTILLERS["kd"](*pair, None, temperature=T))


@pytest.mark.parametrize(
    ("epoch", "share"),
    [(0.0, 0.0), (2.5, (1 - math.sqrt(0.5)) / 2), (5.0, 0.5), (10.0, 1.0), (99.0, 1.0)],
)
def test_theta_gets_the_slope_reversed_and_by_a_cosine_share(backbone, epoch, share) -> None:
    ctkd = CTKD(backbone(), backbone()).double()
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    student.requires_grad_()
    ctkd(*outputs(student, teacher), at_epoch(epoch)).backward()

    def loss(theta: float) -> float:
        T = 1 + 20 / (1 + math.exp(-theta))
        pair = outputs(student.detach(), teacher)
        return DISTILLERS["kd"](*pair, None, temperature=T).item()

    slope = (loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4
    assert ctkd.theta.grad.item() == pytest.approx(-share * slope, rel=1e-5, abs=1e-12)
    T = 1 + 20 / (1 + math.exp(-1))
    p, q = ((z / T).softmax(dim=1) for z in (student.detach(), teacher))
    torch.testing.assert_close(student.grad, T * (p - q) / 4)  # the student's is not reversed


def test_a_step_of_descent_makes_the_loss_larger(backbone) -> None:
    ctkd = CTKD(backbone(), backbone()).double()
    pair = outputs(*torch.randn(2, 4, 5, dtype=torch.float64))
    before = ctkd(*pair, at_epoch(20.0))
    before.backward()
    torch.optim.SGD(ctkd.parameters(), lr=1.0).step()
    assert ctkd(*pair, at_epoch(20.0)) > before


def test_theta_is_saved(backbone) -> None:
    assert list(CTKD(backbone(), backbone()).state_dict()) == ["theta"]


def test_equal_logits_score_0(backbone) -> None:
    z = torch.randn(4, 5)
    assert CTKD(backbone(), backbone())(*outputs(z, z), at_epoch(1.0)).item() == 0


@pytest.mark.parametrize("wrong", [{"t_start": 0.0}, {"t_range": -1.0}, {"epochs": 0}])
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} takes a number .*, not {value}"):
        CTKD(backbone(), backbone(), **wrong)
