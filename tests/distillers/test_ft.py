import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

FT = DISTILLERS["ft"]


def output(feature: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [feature])


def batches(epoch: int):
    """Two batches an epoch, the same every time, handed over without gradient."""
    with torch.no_grad():
        for step in (0, 1):
            seed = torch.Generator().manual_seed(10 * epoch + step)
            yield output(torch.rand(4, 6, 3, 3, generator=seed)), None


def bare(term: nn.Module, scale: float) -> None:
    """Makes encoder and translator multiply a single channel by ``scale``, three times."""
    for part in (term.paraphraser[0], term.translator):
        for layer in part[::2]:
            nn.init.dirac_(layer.weight)
            layer.weight.data *= scale
            nn.init.zeros_(layer.bias)


def test_ft_by_hand(backbone) -> None:
    """Positive factors: (3, 4) -> (.6, .8) and (4, 3) -> (.8, .6); the mean distance is .2."""
    term = FT(backbone((1,)), backbone((1,)), rate=1.0)
    bare(term, 1.0)
    student, teacher = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    loss = term(output(student.view(1, 1, 1, 2)), output(teacher.view(1, 1, 1, 2)), None)
    assert loss.item() == pytest.approx(0.2)


def test_ft_is_the_naive_mean_of_the_factors_distances(backbone) -> None:
    term = FT(backbone((3,)), backbone((6,))).double()
    student, teacher = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 6, 2, 2).double()
    factors = []
    for x, convolutions in ((student, term.translator), (teacher, term.paraphraser[0])):
        for layer in convolutions[::2]:
            x = F.conv2d(x, layer.weight, layer.bias, padding=1)
            x = torch.where(x > 0, x, 0.1 * x)
        factors.append(x.flatten(1).tolist())
    total = 0.0
    for a, b in zip(*factors, strict=True):
        norms = [math.sqrt(sum(v * v for v in row)) for row in (a, b)]
        total += sum(abs(x / norms[0] - y / norms[1]) for x, y in zip(a, b, strict=True))
    assert len(factors[0][0]) == 3 * 4  # half of six channels
    loss = term(output(student), output(teacher), None)
    assert loss.item() == pytest.approx(total / (2 * 12))


def test_the_factors_scale_means_nothing(backbone) -> None:
    term = FT(backbone((1,)), backbone((1,)), rate=1.0)
    bare(term, 1.0)
    student, teacher = output(torch.randn(2, 1, 3, 3)), output(torch.randn(2, 1, 3, 3))
    expected = term(student, teacher, None)
    bare(term, 2.0)
    torch.testing.assert_close(term(student, teacher, None), expected)


def test_equal_factors_score_0(backbone) -> None:
    term = FT(backbone((4,)), backbone((4,)))
    term.translator.load_state_dict(term.paraphraser[0].state_dict())
    given = output(torch.randn(2, 4, 3, 3))
    assert term(given, given, None).item() == 0


def test_the_larger_factor_is_average_pooled(backbone) -> None:
    term = FT(backbone((4,)), backbone((4,)))
    small, large = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 4, 4)
    F_student = F.avg_pool2d(term.translator(large), 2).flatten(1)
    F_teacher = term.paraphraser[0](small).flatten(1)
    expected = (F.normalize(F_student) - F.normalize(F_teacher)).abs().mean()
    torch.testing.assert_close(term(output(large), output(small), None), expected)


def test_a_dead_map_has_a_finite_gradient(backbone) -> None:
    term = FT(backbone((1,)), backbone((1,)), rate=1.0)
    bare(term, 1.0)
    student = torch.zeros(2, 1, 3, 3, requires_grad=True)
    term(output(student), output(torch.zeros(2, 1, 3, 3)), None).backward()
    assert student.grad.isfinite().all()


def test_only_the_translator_is_trained_with_the_student(backbone) -> None:
    term = FT(backbone((3,)), backbone((6,)), epochs=1)
    for _ in range(2):
        learned = {name for name, p in term.named_parameters() if p.requires_grad}
        assert learned == {f"translator.{name}" for name, _ in term.translator.named_parameters()}
        term.prepare(batches)
    assert all(p.grad is None for p in term.parameters())


def test_preparing_is_sgd_on_the_reconstruction(backbone) -> None:
    """Every step: v = .9 v + g + .0005 w, w = w - .1 v, over epochs 0 and 1."""
    term = FT(backbone((3,)), backbone((6,)), epochs=2)
    before = [p.detach().clone() for p in term.paraphraser.parameters()]
    translator = [p.detach().clone() for p in term.translator.parameters()]
    model = FT(backbone((3,)), backbone((6,))).paraphraser
    velocity = [torch.zeros_like(p) for p in before]
    maps = [teacher.features[-1] for epoch in (0, 1) for teacher, _ in batches(epoch)]
    for f in maps:
        weights = [p.clone().requires_grad_() for p in before]
        names = [name for name, _ in model.named_parameters()]
        given = dict(zip(names, weights, strict=True))
        loss = (torch.func.functional_call(model, given, f) - f).abs().mean()
        gradients = torch.autograd.grad(loss, weights)
        velocity = [
            0.9 * v + g + 5e-4 * w for v, g, w in zip(velocity, gradients, before, strict=True)
        ]
        before = [w - 0.1 * v for w, v in zip(before, velocity, strict=True)]
    term.prepare(batches)
    for trained, expected in zip(term.paraphraser.parameters(), before, strict=True):
        torch.testing.assert_close(trained.detach(), expected)
    for kept, expected in zip(term.translator.parameters(), translator, strict=True):
        torch.testing.assert_close(kept.detach(), expected, rtol=0, atol=0)


def test_a_prepared_paraphraser_gives_back_more_of_the_map(backbone) -> None:
    term = FT(backbone((3,)), backbone((6,)), epochs=20)
    teacher, _ = next(batches(0))
    f = teacher.features[-1]
    before = F.l1_loss(term.paraphraser(f), f).item()
    term.prepare(batches)
    assert F.l1_loss(term.paraphraser(f), f).item() < 0.8 * before


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"epochs": 0}])
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} takes a number above 0, not {value}"):
        FT(backbone(), backbone(), **wrong)
