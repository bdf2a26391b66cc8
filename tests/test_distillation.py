"""The sum of the terms, their weights over time, and the teacher's place outside."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term
from kdframe.registry import BACKBONES, DISTILLERS


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


def test_a_term_gets_what_it_needs_and_others_do_not() -> None:
    seen = {}

    def look(name):
        def loss(student, teacher, batch):
            seen[name] = (student, teacher, batch)
            return student.logits.square().mean()

        return loss

    terms = [
        Term("plain", look("plain")),
        Term("views", look("views"), needs=frozenset({"views"})),
        Term("teachers", look("teachers"), needs=frozenset({"teachers"})),
        Term("before", look("before"), needs=frozenset({"preactivations"})),
        Term("taught", look("taught"), needs=frozenset({"teacher_preactivations"})),
    ]
    student, teacher, other = (BACKBONES["cifar_resnet"](5, depth=8, width=2) for _ in range(3))
    model = Distillation(student, teacher, terms, others=[other]).eval()
    given = batch()._replace(image=torch.randn(6, 3, 8, 8), view=torch.randn(6, 3, 8, 8))
    for network in (student, teacher, other):
        assert network.taps
    model(given)
    weak, strong = student(given.image), student(given.view)
    assert torch.equal(seen["plain"][0].logits, weak.logits)
    assert seen["plain"][2] is not None and len(seen["plain"][2].target) == 6
    assert torch.equal(seen["views"][0].logits, torch.cat((weak.logits, strong.logits)))
    assert torch.equal(seen["views"][1].features[1][6:], teacher(given.view).features[1])
    assert torch.equal(seen["views"][2].target, given.target.repeat(2))
    assert torch.equal(seen["views"][2].image, torch.cat((given.image, given.view)))
    first, second = seen["teachers"][1]
    assert torch.equal(first.logits, teacher(given.image).logits)
    assert torch.equal(second.logits, other(given.image).logits)
    assert torch.equal(seen["before"][0].features[-1].relu(), weak.features[-1])
    assert (seen["before"][1].features[-1] < 0).any()
    assert torch.equal(seen["taught"][0].features[-1], weak.features[-1])
    assert torch.equal(seen["taught"][1].features[-1], seen["before"][1].features[-1])


def test_other_teachers_are_asked_only_by_a_term_that_needs_them() -> None:
    def never(*_):
        raise AssertionError

    other = backbone()
    other.register_forward_hook(never)
    model = Distillation(backbone(), backbone(), [Term("b", two)], others=[other])
    model(batch())
    assert not any(p.requires_grad for p in other.parameters())


def test_two_that_teach_each_other_each_have_the_loss_with_the_other_held_still() -> None:
    student, partner = backbone(), backbone()
    terms = [Term("a", one, 0.5, needs_teacher=False), Term("b", two, 2.0)]
    model = Distillation(student, partner, terms, mutual=True).train()
    assert partner.training and any(
        p is q for p in model.parameters() for q in partner.parameters()
    )
    given = batch()
    loss, values = model(given)
    loss.backward()
    own, other = student(given.image), partner(given.image)
    still = [Output(o.logits.detach(), o.embedding, o.features) for o in (own, other)]
    expected = [0.5 * one(own, None, given) + 2 * two(own, still[1], given)]
    expected += [0.5 * one(other, None, given) + 2 * two(other, still[0], given)]
    torch.testing.assert_close(loss, sum(expected))
    assert set(values) == set(model.names) == {"a", "b", "teacher/a", "teacher/b"}
    for network, of in ((student, expected[0]), (partner, expected[1])):
        gradients = torch.autograd.grad(of, list(network.parameters()))
        for p, gradient in zip(network.parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient)


class Deploys(Learned):
    def deployed(self, student):
        return Backbone(student.network, lambda n, image: student(image)._replace(logits=image))


def test_a_term_may_say_what_the_student_becomes() -> None:
    assert Distillation(backbone(), None, [Term("a", one)]).deployed.probe().logits.shape == (1, 5)
    model = Distillation(backbone(), backbone(), [Term("l", Deploys())])
    assert model.deployed.probe().logits.shape == (1, 3, 32, 32)
    assert not any("deployed" in name for name, _ in model.named_modules())


def normed(seed: int = 0, width: int = 2) -> Backbone:
    """A small ResNet, as if trained."""
    torch.manual_seed(seed)
    network = BACKBONES["cifar_resnet"](5, depth=8, width=width)
    network.input_size = (3, 8, 8)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.3)
    return network


def test_a_folded_teacher_teaches_the_same() -> None:
    """ofd looks at maps before the activation, and at the norms before those."""
    student, teacher = normed(), normed(1, width=4)
    terms = [
        Term("kd", DISTILLERS["kd"]),
        Term("ofd", DISTILLERS["ofd"](student, teacher), needs=frozenset({"preactivations"})),
    ]
    model, given = Distillation(student, teacher, terms).eval(), batch()
    before, asked = model(given)[1], []
    names = list(model.state_dict())
    (said,) = model.fold(given.image)
    assert said.startswith("teacher  folded: 9 convolutions, largest difference ")
    assert said.endswith("e-07 on the first batch in fp32")
    teacher.register_forward_hook(lambda *_: asked.append(1))
    after = model(given)[1]
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=1e-6)
    assert not asked and model.teacher is teacher and list(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())


def test_maps_before_activations_are_kept_from_the_start() -> None:
    """Whoever builds terms by hand, in a notebook, gets them too; and none is kept for long."""
    student, teacher, handed = normed(), normed(1), []

    def looks(student, teacher, batch):
        handed.extend([*student.features, *teacher.features])
        return student.logits.mean()

    term = Term("looks", looks, needs=frozenset({"preactivations"}), start=1)
    model = Distillation(student, teacher, [Term("kd", DISTILLERS["kd"]), term])
    given = batch()
    model(given)[0].backward()
    assert not handed
    copy.deepcopy(model)  # as EMA does: no activation holds a tensor with a graph
    model(given._replace(epoch=1.0))
    assert len(handed) == 8 and all(bool((x < 0).any()) for x in handed)


def test_each_teacher_is_folded_but_one_that_learns_or_would_answer_otherwise() -> None:
    odd = normed(2)
    plain = odd.answer
    odd.answer = lambda network, image: plain(network, image)._replace(
        embedding=network.layer1[0].conv1.weight.sum().expand(len(image), 8)
    )
    terms = [Term("b", two, needs=frozenset({"teachers"}))]
    model = Distillation(normed(), normed(1), terms, others=[odd, backbone()], mutual=True)
    said = list(model.fold(batch().image))
    assert len(said) == 2
    assert said[0].startswith("teacher/2  stays unfolded: 9 convolutions, largest difference ")
    assert said[1] == "teacher/3  folded: 0 convolutions"


def test_a_step_leaves_no_graph_behind() -> None:
    """Two steps' tensors would add up to all of an epoch's."""
    model = Distillation(backbone(), backbone(), [Term("b", two)])
    kept = []
    model.student.register_forward_hook(lambda m, i, o: kept.append(weakref.ref(o.logits)))
    model(batch())[0].backward()
    gc.collect()
    assert kept[0]() is None


def test_the_teacher_answers_before_the_student_keeps_what_it_needs() -> None:
    order = []
    student, teacher = backbone(), backbone()
    student.register_forward_pre_hook(lambda *_: order.append("student"))
    teacher.register_forward_pre_hook(lambda *_: order.append("teacher"))
    Distillation(student, teacher, [Term("two", two)])(batch())
    assert order == ["teacher", "student"]


def maps_of(student, teacher, batch):
    return (student.features[0] - teacher.features[0]).square().mean()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_maps_that_no_term_was_seen_to_read_are_made_again_for_one_that_does(precision) -> None:
    torch.manual_seed(0)
    student, teacher, given = backbone(), backbone(), batch()
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    wrong = Term("maps", maps_of, reads_maps=False)
    loss, _ = Distillation(student, teacher, [wrong], precision)(given)
    assert len(calls) == 2
    right, _ = Distillation(student, teacher, [Term("maps", maps_of)], precision)(given)
    assert len(calls) == 3
    assert loss == right


def test_maps_that_no_term_reads_are_gone_before_the_student_answers() -> None:
    student, teacher = backbone(), backbone()
    kept: list[weakref.ref] = []
    alive: list[bool] = []
    teacher.register_forward_hook(
        lambda _, __, output: kept.append(weakref.ref(output.features[0]))
    )
    student.register_forward_pre_hook(lambda *_: alive.append(kept[-1]() is not None))
    Distillation(student, teacher, [Term("two", two, reads_maps=False)])(batch())
    Distillation(student, teacher, [Term("two", two)])(batch())
    assert alive == [False, True]
