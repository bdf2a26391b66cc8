"""The sum of the terms, their weights over time, and the teacher's place outside."""

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term


def backbone() -> Backbone:
    def answer(network, image):
        feature = network[0](image)
        embedding = feature.mean(dim=(2, 3))
        return Output(network[1](embedding), embedding, [feature])

    return Backbone(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5)), answer)


def batch(epoch: float = 0.0) -> Batch:
    return Batch(torch.randn(6, 3, 8, 8), torch.arange(6) % 5, torch.arange(6), epoch)


def one(student, teacher, batch):
    return student.logits.square().mean()


def two(student, teacher, batch):
    return (student.logits - teacher.logits).square().mean()


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student, teacher, batch):
        return self.scale * two(student, teacher, batch)


@pytest.mark.parametrize(
    ("epoch", "on", "weight"),
    [
        (1.9, False, 0.0),
        (2.0, True, 0.0),
        (3.0, True, 1.5),
        (4.0, True, 3.0),
        (9.9, True, 3.0),
        (10.0, False, 0.0),
    ],
)
def test_a_weight_grows_over_warmup_between_start_and_stop(epoch, on, weight) -> None:
    term = Term("one", one, weight=3.0, warmup=2.0, start=2.0, stop=10.0)
    assert term.is_on(epoch) is on
    if on:
        assert term.weight_at(epoch) == pytest.approx(weight)


def test_without_stop_a_term_lasts() -> None:
    assert Term("one", one).is_on(1e6) and Term("one", one).weight_at(0.0) == 1.0


def test_the_loss_is_the_weighted_sum_and_terms_come_unweighted() -> None:
    model = Distillation(backbone(), backbone(), [Term("a", one, 0.5), Term("b/x", two, 2.0)])
    loss, terms = model(batch())
    torch.testing.assert_close(loss.detach(), 0.5 * terms["a"] + 2.0 * terms["b/x"])
    assert not terms["a"].requires_grad and loss.requires_grad


def test_a_term_that_is_off_is_not_computed() -> None:
    def never(student, teacher, batch):
        raise AssertionError

    model = Distillation(backbone(), None, [Term("a", one), Term("b", never, start=1.0)])
    assert list(model(batch(0.5))[1]) == ["a"]
    with pytest.raises(AssertionError):
        model(batch(1.0))


def test_the_teacher_is_asked_only_when_a_term_needs_it() -> None:
    teacher = backbone()
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    terms = [Term("a", one, needs_teacher=False), Term("b", two, stop=1.0)]
    model = Distillation(backbone(), teacher, terms)
    model(batch(0.0))
    model(batch(1.0))
    assert len(calls) == 1


def test_the_teacher_is_frozen_in_eval_mode_and_in_nobodys_sight() -> None:
    student, teacher = backbone(), backbone()
    model = Distillation(student, teacher, [Term("l", Learned())]).train()
    model(batch())[0].backward()
    assert not teacher.training and student.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in model.parameters())
    names = {name for name, _ in model.named_parameters()}
    assert names == {f"student.network.{n}" for n, _ in student.network.named_parameters()} | {
        "learned.l.scale"
    }
    assert set(model.state_dict()) == names


def test_terms_get_float32_from_half_precision() -> None:
    seen = []

    def look(student, teacher, batch):
        seen.extend([student.logits.dtype, teacher.features[0].dtype])
        return one(student, teacher, batch)

    Distillation(backbone(), backbone(), [Term("a", look)], torch.bfloat16)(batch())
    assert seen == [torch.float32, torch.float32]


def test_float64_stays() -> None:
    model = Distillation(backbone(), backbone(), [Term("b", two)]).double()
    model.teacher.double()
    b = batch()
    assert model(b._replace(image=b.image.double()))[0].dtype == torch.float64
