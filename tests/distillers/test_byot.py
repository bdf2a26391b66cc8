import math

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

BYOT = DISTILLERS["byot"]


def batch(target: list[int]) -> Batch:
    return Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)


def spread(z: list[float], T: float = 1.0) -> list[float]:
    powers = [math.exp(v / T) for v in z]
    return [v / sum(powers) for v in powers]


class Given(nn.Module):
    """Answers with what it is told to."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _: Tensor) -> Tensor:
        return self.answer


def term(backbone, own: Tensor, z_i: Tensor, F: Tensor, z: Tensor, target, **options) -> float:
    """The loss where one stage's bottleneck gives ``own`` and its classifier ``z_i``."""
    loss = BYOT(backbone(), None, stages=(1,), **options)
    loss.bottlenecks[0], loss.classifiers[0] = Given(own), Given(z_i)
    return loss(Output(z, F, [torch.empty(0)] * 3), None, batch(target)).item()


def test_byot_by_hand(backbone) -> None:
    """Even logits of two classes, so CE is log 2; the last classifier's p at T 2 is e, 1 of e + 1.

    The two features differ by (3, 0) and (0, 4), so by 5 over the batch, and by (9 + 16) / 2 as a
    mean of squares.
    """
    own, F = torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    z_i, z = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    p = math.e / (math.e + 1)
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    rest = 0.6 * math.log(2) + 0.4 * kl
    options = {"alpha": 0.4, "hint": 0.1, "temperature": 2.0}
    loss = term(backbone, own, z_i, F, z, [0, 1], **options)
    assert loss == pytest.approx(rest + 0.1 * 5, rel=1e-5)
    loss = term(backbone, own, z_i, F, z, [0, 1], variant="paper", **options)
    assert loss == pytest.approx(rest + 0.1 * 12.5, rel=1e-5)


def test_byot_is_the_naive_sum_over_stages(backbone) -> None:
    student = backbone((2, 3, 4, 6), (1, 2, 2, 1))
    loss = BYOT(student, None).double().eval()
    assert loss.stages == (1, 2)
    maps = [torch.randn(3, *shape, dtype=torch.float64) for shape in student.shapes]
    z, F = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    labels, total = [4, 0, 0], 0.0
    for i, bottleneck, classifier in zip((1, 2), loss.bottlenecks, loss.classifiers, strict=True):
        own = bottleneck(maps[i])
        z_i = (own @ classifier.weight.T + classifier.bias).tolist()
        for b, y in enumerate(labels):
            p = spread(z[b].tolist(), 3)
            pairs = zip(p, spread(z_i[b], 3), strict=True)
            kl = sum(a * math.log(a / q) for a, q in pairs)
            total += (0.7 * -math.log(spread(z_i[b])[y]) + 0.3 * kl) / 3
        total += 0.03 * math.hypot(*(own - F).flatten().tolist())
    given = loss(Output(z, F, maps), None, batch(labels)).item()
    assert given == pytest.approx(total)


def test_a_bottleneck_brings_its_stage_to_the_last_ones_height_and_the_embeddings_width(
    backbone,
) -> None:
    student = backbone((2, 3, 4, 8), (1, 1, 2, 2))  # 8, 8, 4 and 2 high
    loss = BYOT(student, None, stages=(1, 2)).eval()
    for i, k, bottleneck in zip((1, 2), (4, 2), loss.bottlenecks, strict=True):
        f = torch.randn(3, *student.shapes[i])
        assert bottleneck[3].stride == (k, k)
        assert bottleneck[:9](f).shape == (3, 8, 2, 2)
        assert bottleneck(f).shape == (3, 8)


def test_the_last_classifier_teaches_and_isnt_taught(backbone) -> None:
    student = backbone()
    output = Output(
        torch.randn(4, 5), torch.randn(4, 4), [torch.randn(4, *s) for s in student.shapes]
    )
    for t in (output.logits, output.embedding, *output.features):
        t.requires_grad_()
    BYOT(student, None)(output, None, batch([0, 1, 2, 3])).backward()
    assert output.logits.grad is None
    assert output.embedding.grad is None
    assert [f.grad is None for f in output.features] == [True, False, True]


def test_a_teacher_changes_nothing(backbone) -> None:
    assert DISTILLERS.does_without("byot", "teacher")
    student = backbone()
    output = Output(
        torch.randn(4, 5), torch.randn(4, 4), [torch.randn(4, *s) for s in student.shapes]
    )
    losses = []
    for teacher in (None, output):
        torch.manual_seed(0)
        losses.append(BYOT(student, None)(output, teacher, batch([0, 1, 2, 3])).item())
    assert losses[0] == losses[1]


WRONG = [
    ({"alpha": 1.5}, r"alpha takes a number from 0 to 1, not 1\.5"),
    ({"hint": -1.0}, r"hint takes a number from 0, not -1\.0"),
    ({"temperature": 0.0}, r"temperature takes a number above 0, not 0\.0"),
    ({"variant": "coed"}, r"variant takes code or paper, not 'coed'\. Did you mean code"),
    ({"stages": (7,)}, r"no stage \[7\]"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        BYOT(backbone(), None, **wrong)


def test_a_network_of_one_stage_is_refused(backbone) -> None:
    with pytest.raises(ValueError, match="two stages at least"):
        BYOT(backbone((2, 3), (1, 2)), None)
