import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

OFAStages = DISTILLERS["ofa_stages"]


def student_output(*features: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), list(features))


def teacher_output(logits: Tensor) -> Output:
    return Output(logits, torch.empty(0), [])


def labels(*y: int) -> Batch:
    return Batch(torch.empty(0), torch.tensor(y), torch.empty(0), 0.0)


def single(backbone, logits: list[float], **options: float) -> nn.Module:
    """A term of one stage whose head answers with these logits, whatever it sees."""
    networks = (backbone((3,), num_classes=len(logits)) for _ in range(2))
    term = OFAStages(*networks, stages=(0,), **options)
    nn.init.zeros_(term.heads[0][-1].weight)
    term.heads[0][-1].bias.data = torch.tensor(logits).to(term.heads[0][-1].weight)
    return term


def test_ofa_stages_by_hand(backbone) -> None:
    """p = (3/4, 1/4), q = (1/2, 1/2), label 0, eps = 2: the weights are (7/4)^2 - 1 and 1/16."""
    term = single(backbone, [0.0, 0.0], eps=2.0)
    teacher = teacher_output(torch.tensor([[math.log(3), 0.0]]))
    loss = term(student_output(torch.randn(1, 3, 8, 8)), teacher, labels(0))
    assert loss.item() == pytest.approx((49 / 16 - 1 + 1 / 16) * math.log(2), rel=1e-5)


def test_ofa_stages_is_the_naive_sum_over_stages_without_the_stem(backbone) -> None:
    term = OFAStages(backbone(), backbone(), eps=1.5, temperature=2.0).double().eval()
    features = [torch.randn(3, c, s, s).double() for c, s in ((2, 8), (3, 4), (4, 2))]
    z_teacher, y = torch.randn(3, 5).double(), (0, 4, 2)
    total = 0.0
    for head, f in zip(term.heads, features[1:], strict=True):
        for n, (z_student, z) in enumerate(zip(head(f).tolist(), z_teacher.tolist(), strict=True)):
            q, p = ([math.exp(v / 2) for v in row] for row in (z_student, z))
            for k in range(5):
                p_k, is_y = p[k] / sum(p), float(k == y[n])
                weight = (p_k + is_y) ** 1.5 - is_y
                total -= weight * math.log(q[k] / sum(q)) / 3
    loss = term(student_output(*features), teacher_output(z_teacher), labels(*y))
    assert loss.item() == pytest.approx(total)


def test_eps_1_is_the_cross_entropy_to_the_teacher_whatever_the_label(backbone) -> None:
    z = [0.3, -1.0, 2.0]
    term, teacher = single(backbone, z), torch.randn(2, 3)
    expected = F.cross_entropy(torch.tensor([z, z]), teacher.softmax(dim=1))
    for y in (0, 2):
        loss = term(student_output(torch.randn(2, 3, 8, 8)), teacher_output(teacher), labels(y, y))
        torch.testing.assert_close(loss, expected)


def test_a_head_that_agrees_scores_the_teachers_entropy(backbone) -> None:
    z = [0.3, -1.0, 2.0]
    p = torch.tensor(z).softmax(dim=0)
    given = student_output(torch.randn(1, 3, 8, 8)), teacher_output(torch.tensor([z])), labels(1)
    loss = single(backbone, z)(*given)
    torch.testing.assert_close(loss, -(p * p.log()).sum())
    assert single(backbone, [0.0, -1.0, 2.0])(*given) > loss


def test_a_larger_eps_asks_more_of_the_label(backbone) -> None:
    """The label's weight among all weights grows with eps."""
    teacher, shares = teacher_output(torch.tensor([[0.0, 0.0, 1.0]])), []
    for eps in (1.0, 1.5, 3.0):
        losses = []
        for certain in (0, 1, 2):
            z = [0.0 if k == certain else -20.0 for k in range(3)]
            term = single(backbone, z, eps=eps)
            losses.append(term(student_output(torch.randn(1, 3, 8, 8)), teacher, labels(0)).item())
        total = sum(losses) / 2  # a class's weight is missing from its own loss alone
        shares.append((total - losses[0]) / total)
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / (2 + math.e), rel=1e-4)


def test_a_head_halves_its_map_to_the_last_stages_size(backbone) -> None:
    student, teacher = backbone((2, 3, 4), (1, 2, 2)), backbone((2, 9))
    term = OFAStages(student, teacher, stages=(0, 1, 2))
    for head, (C, H, W), pairs in zip(term.heads, student.shapes, (2, 1, 0), strict=True):
        f = torch.randn(2, C, H, W)
        *layers, pool, flat, last = head
        assert len(layers) == max(pairs, 1)
        assert isinstance(layers[0], nn.Sequential if pairs else nn.Conv2d)
        for layer in layers:
            f = layer(f)
        assert f.shape == (2, 9, 2, 2)  # as wide as the wider network's embedding
        assert last(flat(pool(f))).shape == (2, 5)


def test_a_map_of_odd_size_is_halved_too(backbone) -> None:
    student = backbone((2, 3), (1, 2))
    student.input_size = (3, 7, 5)
    assert student.shapes == [(2, 7, 5), (3, 4, 3)]
    head = OFAStages(student, backbone(), stages=(0,)).heads[0]
    assert head[0](torch.randn(2, 2, 7, 5)).shape[2:] == (4, 3)


def test_the_heads_learn_and_have_the_teachers_classes(backbone) -> None:
    term = OFAStages(backbone(num_classes=2), backbone(num_classes=7))
    assert [head[-1].out_features for head in term.heads] == [7, 7]
    assert all(p.requires_grad for p in term.parameters())


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("eps", 0.0, "eps takes a number above 0, not 0.0"),
        ("temperature", -1.0, "temperature takes a number above 0, not -1.0"),
        ("stages", (9,), r"no stage \[9\]: this network has 0 to 2"),
    ],
)
def test_a_wrong_option_is_refused_while_the_term_is_built(
    backbone, option, wrong, message
) -> None:
    with pytest.raises(ValueError, match=message):
        OFAStages(backbone(), backbone(), **{option: wrong})
