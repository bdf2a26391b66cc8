import math

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import DISTILLERS

SRRL = DISTILLERS["srrl"]


def student_output(feature: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [feature])


def teacher_output(h: Tensor, z: Tensor) -> Output:
    return Output(z, h, [])


def test_srrl_by_hand(backbone) -> None:
    """Maps of (1, -1): BatchNorm and ReLU give (a, 0), its mean is a/2; W = 2, b = 1."""
    teacher = backbone((1,), num_classes=1)
    nn.init.constant_(teacher.network.head.weight, 2.0)
    nn.init.constant_(teacher.network.head.bias, 1.0)
    term = SRRL(backbone((1,)), teacher, alpha=3.0, beta=5.0)
    nn.init.ones_(term.connector[0].weight)
    h = 1 / math.sqrt(1 + 1e-5) / 2
    student = student_output(torch.tensor([1.0, -1.0]).view(1, 1, 1, 2))
    given = teacher_output(torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    expected = 3 * (h - 2) ** 2 + 5 * (2 * h + 1 - 4) ** 2
    assert term(student, given, None).item() == pytest.approx(expected)


def test_srrl_is_the_naive_sum(backbone) -> None:
    teacher = backbone((4,))
    term = SRRL(backbone((3,)), teacher, beta=2.0).double().eval()
    f, h, z = (torch.randn(*size).double() for size in ((2, 3, 2, 2), (2, 4), (2, 5)))
    P = term.connector[0].weight[:, :, 0, 0].tolist()
    W, b = teacher.network.head.weight.tolist(), teacher.network.head.bias.tolist()
    total = 0.0
    for n in range(2):
        mapped = []
        for o in range(4):
            values = [
                sum(P[o][c] * f[n, c, i, j].item() for c in range(3)) / math.sqrt(1 + 1e-5)
                for i in range(2)
                for j in range(2)
            ]
            mapped.append(sum(max(v, 0.0) for v in values) / 4)
        total += sum((mapped[c] - h[n, c].item()) ** 2 for c in range(4)) / (2 * 4)
        for k in range(5):
            logit = b[k] + sum(W[k][c] * mapped[c] for c in range(4))
            total += 2 * (logit - z[n, k].item()) ** 2 / (2 * 5)
    loss = term(student_output(f), teacher_output(h, z), None)
    assert loss.item() == pytest.approx(total)


def test_a_student_with_the_teachers_features_scores_0(backbone) -> None:
    teacher = backbone((4,))
    term = SRRL(backbone((3,)), teacher)
    student = student_output(torch.randn(2, 3, 3, 3))
    h = term.connector(student.features[-1]).mean((2, 3))
    assert term(student, teacher_output(h, teacher.network.head(h)), None).item() == 0


def test_the_classifier_is_the_teachers_own_not_trained_and_not_saved(backbone) -> None:
    teacher = backbone((4,))
    term = SRRL(backbone((3,)), teacher)
    student = student_output(torch.randn(2, 3, 3, 3))
    given = teacher_output(torch.randn(2, 4), torch.randn(2, 5))
    before = term(student, given, None)
    before.backward()
    assert teacher.network.head.weight.grad is None
    assert {name.split(".")[0] for name, _ in term.named_parameters()} == {"connector"}
    assert {name.split(".")[0] for name in term.state_dict()} == {"connector"}
    nn.init.normal_(teacher.network.head.weight)  # weights that come after the term
    assert term(student, given, None) != before


def test_networks_of_other_classes_may_learn_from_each_other(backbone) -> None:
    teacher = backbone((4,), num_classes=7)
    term = SRRL(backbone((3,), num_classes=2), teacher)
    given = teacher_output(torch.randn(2, 4), torch.randn(2, 7))
    assert term(student_output(torch.randn(2, 3, 3, 3)), given, None).isfinite()


def test_a_classifier_without_a_bias_will_do(backbone) -> None:
    teacher = backbone((4,))
    teacher.network.head = nn.Linear(4, 5, bias=False)
    term = SRRL(backbone((3,)), teacher)
    student = student_output(torch.randn(2, 3, 3, 3))
    h = term.connector(student.features[-1]).mean((2, 3))
    given = teacher_output(h, h @ teacher.network.head.weight.T)
    assert term(student, given, None).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"beta": math.nan}])
def test_a_wrong_option_is_refused_by_name_and_value(backbone, wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} takes a number from 0, not {value}"):
        SRRL(backbone(), backbone(), **wrong)
