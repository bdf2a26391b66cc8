import math

import pytest
import torch
from torch import Tensor

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS

SDD = DISTILLERS["sdd"]


def batch(target: list[int]) -> Batch:
    return Batch(torch.empty(0), torch.tensor(target), torch.empty(0), 0.0)


def output(network: Backbone, f: Tensor) -> Output:
    """What a network of that last map would answer."""
    layer, embedding = network.classifier, f.mean((2, 3))
    logits = embedding @ layer.weight.to(f.dtype).T + layer.bias.to(f.dtype)
    return Output(logits.detach(), embedding, [f])


def kl(z_teacher: list[float], z_student: list[float], T: float) -> float:
    P, Q = (
        [math.exp(v / T) / sum(math.exp(w / T) for w in z) for v in z]
        for z in (z_teacher, z_student)
    )
    return sum(p * math.log(p / q) for p, q in zip(P, Q, strict=True))


def identity(network: Backbone) -> Backbone:
    """Makes the classifier hand on its input."""
    with torch.no_grad():
        network.classifier.weight.copy_(torch.eye(2))
        network.classifier.bias.zero_()
    return network


def test_sdd_by_hand(backbone) -> None:
    """A map of 2 x 2 positions is its own logits; the student's are even.

    The teacher's are (2, 0) on three positions and (-2, 0) on one, so (1, 0) on the image.  For
    the label 0 it is right but on the one, for the label 1 only there: that one counts beta 3.
    """
    student, teacher = (identity(backbone((2, 2), (2, 2), 2)) for _ in range(2))
    f = torch.zeros(1, 2, 2, 2)
    f[:, 0] = torch.tensor([[2.0, 2.0], [2.0, -2.0]])
    loss = SDD(student, teacher, scales=(1, 2), beta=3.0, temperature=1.0)
    given = loss(output(student, torch.zeros_like(f)), output(teacher, f), batch([0])).item()
    image, cell = kl([1.0, 0.0], [0.0, 0.0], 1), kl([2.0, 0.0], [0.0, 0.0], 1)
    expected = (image + 3 * cell + 3 * cell) / 5
    assert given == pytest.approx(expected, rel=1e-5)
    given = loss(output(student, torch.zeros_like(f)), output(teacher, f), batch([1])).item()
    assert given == pytest.approx(expected, rel=1e-5)


def test_sdd_is_the_naive_sum(backbone) -> None:
    student, teacher = backbone((2, 3), (1, 2)), backbone((2, 6), (1, 1))
    loss = SDD(student, teacher, scales=(1, 2, 4), temperature=3.0)
    f_student = torch.randn(3, 3, 4, 4, dtype=torch.float64)
    f_teacher = 50 * torch.randn(3, 6, 8, 8, dtype=torch.float64)  # more than the bias
    outputs, labels = (output(student, f_student), output(teacher, f_teacher)), [0, 1, 2]
    total, doubled = 0.0, 0
    for b, y in enumerate(labels):
        on_image = outputs[1].logits[b].argmax().item() == y
        for m in (1, 2, 4):
            for i in range(m):
                for j in range(m):
                    z = []
                    for network, f in ((student, f_student), (teacher, f_teacher)):
                        k = f.shape[2] // m
                        mean = f[b, :, i * k : i * k + k, j * k : j * k + k].mean((1, 2))
                        layer = network.classifier
                        z.append((layer.weight.double() @ mean + layer.bias.double()).tolist())
                    on_cell = z[1].index(max(z[1])) == y
                    doubled += on_cell != on_image
                    total += (1 + (on_cell != on_image)) * 9 * kl(z[1], z[0], 3)
    assert 0 < doubled < 60
    assert loss(*outputs, batch(labels)).item() == pytest.approx(total / (3 * 21))


def test_scale_1_is_kd(backbone) -> None:
    student, teacher = backbone(), backbone((2, 5, 6), (1, 2, 1))
    outputs = output(student, torch.randn(4, 4, 2, 2)), output(teacher, torch.randn(4, 6, 4, 4))
    loss = SDD(student, teacher, scales=(1,))(*outputs, batch([0, 1, 2, 3]))
    torch.testing.assert_close(loss, DISTILLERS["kd"](*outputs, None))


def test_equal_maps_and_classifiers_score_0(backbone) -> None:
    network = backbone()
    given = output(network, torch.randn(4, 4, 2, 2))
    assert SDD(network, network)(given, given, batch([0, 1, 2, 3])).item() == 0


def test_the_students_classifier_is_trained_and_neither_is_the_terms_own(backbone) -> None:
    student, teacher = backbone(), backbone()
    teacher.requires_grad_(False)
    loss = SDD(student, teacher)
    assert not loss.state_dict()
    assert not list(loss.parameters())
    outputs = (output(n, torch.randn(4, 4, 2, 2)) for n in (student, teacher))
    loss(*outputs, batch([0, 1, 2, 3])).backward()
    assert student.classifier.weight.grad.abs().sum() > 0


WRONG = [
    ({"scales": ()}, r"scales takes ints from 1 to the last map's 2, not \(\)"),
    ({"scales": (1, 4)}, r"scales takes ints from 1 to the last map's 2, not \(1, 4\)"),
    ({"beta": -1.0}, r"beta takes a number from 0, not -1\.0"),
    ({"temperature": 0.0}, r"temperature takes a number above 0, not 0\.0"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        SDD(backbone(), backbone(), **wrong)
