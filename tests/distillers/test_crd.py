import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers import crd as file
from kdframe.registry import DISTILLERS

LABELS = torch.tensor([0, 1, 2, -1, 0, 1, 2, 0, 1, 2, 0, 1])


def output(h: Tensor) -> Output:
    return Output(torch.empty(len(h), 0), h, [])


def batch(*items: int) -> Batch:
    item = torch.tensor(items)
    return Batch(torch.empty(0), LABELS[item], item, 0.0)


@pytest.fixture
def made(backbone) -> Any:
    def make(**options: float) -> Any:
        term = DISTILLERS["crd"](
            backbone((4,)), backbone((6,)), **{"negatives": 5, "dim": 3} | options
        )
        term.set_labels(LABELS)
        return term.double()

    return make


def outputs(size: int = 4) -> tuple[Output, Output]:
    return output(torch.randn(size, 4).double()), output(torch.randn(size, 6).double())


def test_nothing_told_apart_scores_the_logarithm_of_the_choices(made) -> None:
    """All entries alike: every score is its mean, so p = 1/N, and p / (p + c) = 1/(1 + negatives).

    N is 11 (one image is held out), and each of two sides gives log 6 + 5 log(6/5).
    """
    term = made()
    for linear in term.embed:
        torch.nn.init.zeros_(linear.weight)
    term.bank.copy_(F.normalize(torch.randn(3), dim=0))
    loss = term(*outputs(), batch(0, 1, 2, 4)).item()
    assert loss == pytest.approx(2 * (math.log(6) + 5 * math.log(6 / 5)), rel=1e-5)


def test_crd_is_the_naive_sum(made) -> None:
    term, (student, teacher), given = made(temperature=0.2), outputs(), batch(0, 8, 2, 4)
    drawn, bank = term.drawn(given).tolist(), term.bank.tolist()
    loss = term(student, teacher, given).item()
    v = []
    for linear, o in zip(term.embed, (student, teacher), strict=True):
        rows = (o.embedding @ linear.weight.T + linear.bias).tolist()
        v.append([[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows])
    total, c = 0.0, 5 / 11
    for side, other in ((0, 1), (1, 0)):
        exps = []
        for b, item in enumerate(given.item.tolist()):
            entries = [bank[other][i] for i in (item, *drawn[b])]
            products = [sum(x * y for x, y in zip(v[side][b], e, strict=True)) for e in entries]
            exps.append([math.exp(p / 0.2) for p in products])
        Z = 11 * sum(map(sum, exps)) / (4 * 6)
        for row in exps:
            own, *others = (e / Z for e in row)
            total -= math.log(own / (own + c + 1e-7))
            total -= sum(math.log(c / (p + c + 1e-7)) for p in others)
    assert loss == pytest.approx(total / 4)


def test_a_bank_keeps_what_it_saw(made) -> None:
    term, (student, teacher), given = made(momentum=0.75), outputs(), batch(0, 8, 2, 4)
    before = term.bank.clone()
    term(student, teacher, given)
    for side, o in enumerate((student, teacher)):
        v = F.normalize(term.embed[side](o.embedding), dim=1)
        for b, item in enumerate(given.item.tolist()):
            expected = 0.75 * before[side, item] + 0.25 * v[b]
            torch.testing.assert_close(term.bank[side, item], expected / expected.norm())
    others = [1, 3, 5, 6, 7, 9, 10, 11]
    assert term.bank[:, others].equal(before[:, others])


def test_z_is_of_the_first_batch(made) -> None:
    term = made()
    term(*outputs(2), batch(0, 1))
    first = term.log_z.clone()
    term(*outputs(2), batch(2, 4))
    assert term.log_z.equal(first)
    assert (first != 0).all()


@pytest.mark.parametrize("negatives", [5, 1000])
def test_negatives_are_trained_images_of_other_classes(made, negatives) -> None:
    term = made(negatives=negatives)
    given = batch(0, 1, 2, 4, 9, 11)
    drawn = term.drawn(given)
    assert drawn.shape == (6, negatives)
    assert (LABELS[drawn] >= 0).all()
    assert (LABELS[drawn] != given.target[:, None]).all()
    for row, target in zip(drawn.tolist(), given.target.tolist(), strict=True):
        others = ((LABELS >= 0) & (target != LABELS)).sum().item()
        assert len(set(row)) == min(negatives, others)


def test_negatives_change_from_call_to_call(made) -> None:
    term, given = made(), batch(0, 1, 2)
    before = term.drawn(given)
    term(*outputs(3), given)
    assert not term.drawn(given).equal(before)


@pytest.mark.parametrize("chunk", [1, 40, 2**25])
@pytest.mark.parametrize("K", [1, 6])
def test_products_are_those_of_the_rows_however_they_come_about(monkeypatch, chunk, K) -> None:
    monkeypatch.setattr(file, "CHUNK", chunk)
    bank, x = torch.randn(20, 3).double(), torch.randint(20, (4, K))
    v = torch.randn(4, 3).double().requires_grad_()
    result = file.products(v, bank, x)
    expected = torch.einsum("bd,bkd->bk", v, bank[x])
    torch.testing.assert_close(result, expected)
    weights = torch.randn(4, K).double()
    gradients = [torch.autograd.grad((y * weights).sum(), v)[0] for y in (result, expected)]
    torch.testing.assert_close(*gradients)


def test_after_the_first_batch_the_gradient_is_the_slope(made) -> None:
    term, (student, teacher), given = made(), outputs(), batch(0, 8, 2, 4)
    term(student, teacher, given)

    def loss(h: Tensor) -> Tensor:
        return copy.deepcopy(term)(output(h), teacher, given)

    assert torch.autograd.gradcheck(loss, student.embedding.clone().requires_grad_())


def test_moving_the_bank_leaves_the_backward_pass_of_its_batch_alone(made) -> None:
    """The same batch with and without the move of the bank gives the same gradient."""
    term, (student, teacher), given = made(), outputs(), batch(0, 8, 2, 4)
    still = copy.deepcopy(term)
    still.momentum = 1.0
    gradients = []
    for t in (term, still):
        h = student.embedding.clone().requires_grad_()
        t(output(h), teacher, given).backward()
        gradients.append(h.grad)
    assert not term.bank.allclose(still.bank)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_a_term_restored_from_its_state_goes_on_as_if_it_had_never_stopped(made, tmp_path) -> None:
    term, other = made(), made()
    for items in ((0, 1, 2), (4, 5, 6)):
        term(*outputs(3), batch(*items))
    torch.save(term.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    student, teacher = outputs(3)
    for items in ((0, 7, 2), (9, 5, 10)):
        given = batch(*items)
        assert other(student, teacher, given).equal(term(student, teacher, given))
    assert other.bank.equal(term.bank)
    assert set(term.state_dict()) >= {"bank", "calls", "log_z"}


def test_a_low_temperature_stays_finite(made) -> None:
    term, given = made(temperature=1e-3), batch(0, 8, 2, 4)
    student, teacher = outputs()
    student.embedding.requires_grad_()
    loss = term(student, teacher, given)
    loss.backward()
    assert loss.isfinite()
    assert student.embedding.grad.isfinite().all()


def test_before_the_labels_are_known_it_says_what_to_call(backbone) -> None:
    term = DISTILLERS["crd"](backbone((4,)), backbone((6,)))
    with pytest.raises(ValueError, match="call set_labels"):
        term(*outputs(2), batch(0, 1))


def test_one_class_has_no_others(backbone) -> None:
    with pytest.raises(ValueError, match="two classes"):
        DISTILLERS["crd"](backbone(), backbone()).set_labels(torch.tensor([1, 1, -1]))


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("negatives", 0), ("dim", 0), ("temperature", 0.0), ("momentum", 1.5)],
)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, option, wrong) -> None:
    with pytest.raises(ValueError, match=f"{option} takes .*not {wrong}"):
        DISTILLERS["crd"](backbone(), backbone(), **{option: wrong})
