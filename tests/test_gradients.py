"""What share of the student's gradient a term has: by hand, and with a weight that does nothing."""

import math

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term
from kdframe.gradients import term_gradients, warnings


class Slope(nn.Module):
    """Two classes' logits (a m, b m) of the mean m of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def forward(self, image):
        mean = image.mean(dim=(1, 2, 3))
        return torch.stack((self.a * mean, self.b * mean), dim=1)


def slope() -> Backbone:
    def answer(network, image):
        return Output(network(image), image.mean(dim=(2, 3)), [image])

    return Backbone(Slope(), answer)


def first(student, teacher, batch):
    return student.logits[:, 0].mean()  # its gradient is (1, 0) for images of ones


def second(student, teacher, batch):
    return student.logits[:, 1].mean()  # (0, 1)


def constant(student, teacher, batch):
    return batch.image.mean()


def noisy(student, teacher, batch):
    return student.logits[:, 0].mean() * torch.rand(())


def batches(count: int = 2, epoch: float = 0.0) -> list[Batch]:
    zeros = torch.zeros(4, dtype=torch.long)
    return [Batch(torch.ones(4, 3, 8, 8), zeros, zeros, epoch) for _ in range(count)]


def measured(*terms: Term, epoch: float = 0.0):
    return term_gradients(Distillation(slope(), None, terms), batches(epoch=epoch))


def term(loss, weight: float = 1.0, **when: float) -> Term:
    return Term(loss.__name__, loss, weight, needs_teacher=False, **when)


def test_norms_and_shares_are_those_of_the_weighted_terms() -> None:
    found = measured(term(first, 3.0), term(second))
    assert (found["first"].norm, found["second"].norm) == (3.0, 1.0)
    assert (found["first"].share, found["second"].share) == (0.75, 0.25)
    assert found["first"].value == found["second"].value == 1.0
    assert found["first"].cosine == found["second"].cosine == 0.0
    assert warnings(found) == {}


def test_a_term_that_pulls_back_has_a_negative_cosine() -> None:
    def back(student, teacher, batch):
        return -student.logits.sum(dim=1).mean()  # (-1, -1)

    found = measured(term(first), term(back))
    assert found["first"].cosine == pytest.approx(-1 / math.sqrt(2))


def test_a_weight_that_does_nothing_is_told() -> None:
    """As a mean over a map is, read with 1/128."""
    said = warnings(measured(term(first), term(second, 1 / 128)))
    assert said["second"] == "0.78 % of the gradient: it does nearly nothing."
    assert said["first"] == "99.22 % of the gradient: the rest does nearly nothing."


def test_a_term_that_never_reaches_the_student_has_no_share() -> None:
    said = warnings(measured(term(first), term(constant)))
    assert said["constant"].startswith("0 % of the gradient")


def test_a_term_alone_is_not_warned_of() -> None:
    assert warnings(measured(term(first))) == {}


def test_a_term_that_warms_up_is_not_warned_of() -> None:
    """Its share is 1/401 at a hundredth of an epoch; one that is small as well is told of."""
    terms = term(first), term(second, warmup=4.0)
    found = measured(*terms, epoch=0.01)
    assert warnings(found).keys() == {"first", "second"}
    assert warnings(found, ["second"]) == {}
    found = measured(*terms, term(constant), epoch=0.01)
    assert warnings(found, ["second"]).keys() == {"constant"}
    assert measured(*terms, epoch=1.0)["second"].weight == 0.25


def test_a_term_that_is_off_is_not_measured() -> None:
    assert measured(term(first), term(second, start=5.0)).keys() == {"first"}


def test_no_term_and_no_batch_is_an_error() -> None:
    model = Distillation(slope(), None, [term(first, start=5.0)])
    with pytest.raises(ValueError, match="a batch or more"):
        term_gradients(model, batches())
    with pytest.raises(ValueError, match="a batch or more"):
        term_gradients(model, [])


def test_every_term_sees_the_same_draws() -> None:
    found = measured(term(noisy), Term("again", noisy, needs_teacher=False))
    assert found["noisy"].value == found["again"].value


def test_the_gradients_add_up_to_the_losses_own() -> None:
    model = Distillation(slope(), None, [term(first, 3.0), term(second)])
    loss, _ = model(batches()[0])
    whole = torch.stack(torch.autograd.grad(loss, list(model.student.parameters()))).norm()
    found = term_gradients(model, batches())
    assert math.hypot(found["first"].norm, found["second"].norm) == pytest.approx(float(whole))
    assert [t.name for t in model.terms] == ["first", "second"]
