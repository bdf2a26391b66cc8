import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.registry import DISTILLERS

SimKD = DISTILLERS["simkd"]


def output(feature: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [feature])


def test_simkd_by_hand(backbone) -> None:
    """(1, -1): BatchNorm and ReLU leave (x, 0), x = 1/sqrt(1 + e); it is x/2 from the mean, so
    the next two leave x/2 / sqrt((x/2)^2 + e) each."""
    term = SimKD(backbone((1,)), backbone((1,)), factor=1)
    for layer in term.projector[::3]:
        nn.init.dirac_(layer.weight)
    e = 1e-5
    x = 1 / math.sqrt(1 + e)
    for _ in range(2):
        x = x / 2 / math.sqrt((x / 2) ** 2 + e)
    student = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    teacher = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1)
    expected = ((x - 3) ** 2 + (0 - 5) ** 2) / 2
    assert term(output(student), output(teacher), None).item() == pytest.approx(expected)


def test_simkd_is_the_naive_mean_of_squares(backbone) -> None:
    term = SimKD(backbone((3,)), backbone((4,))).double().eval()
    student, teacher = torch.randn(2, 3, 3, 3).double(), torch.randn(2, 4, 3, 3).double()
    x = student
    for layer, norm, kernel in zip(
        term.projector[::3], term.projector[1::3], (1, 3, 1), strict=True
    ):
        assert layer.kernel_size == (kernel, kernel)
        assert layer.bias is None
        norm.running_mean.normal_()
        x = F.conv2d(x, layer.weight, padding=kernel // 2)
        x = (x - norm.running_mean.view(-1, 1, 1)) / math.sqrt(1 + 1e-5)
        x = x * (x > 0)
    pairs = zip(x.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    squares = [(a - b) ** 2 for a, b in pairs]
    loss = term(output(student), output(teacher), None)
    assert loss.item() == pytest.approx(sum(squares) / (2 * 4 * 9))


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_average_pooled_the_students_before_it_is_projected(
    backbone, larger
) -> None:
    term = SimKD(backbone((3,)), backbone((4,))).eval()
    sizes = (4, 2) if larger == "student" else (2, 4)
    student, teacher = torch.randn(2, 3, sizes[0], sizes[0]), torch.randn(2, 4, sizes[1], sizes[1])
    small = [F.adaptive_avg_pool2d(f, 2) for f in (student, teacher)]
    expected = (term.projector(small[0]) - small[1]).square().mean()
    torch.testing.assert_close(term(output(student), output(teacher), None), expected)


def test_the_projector_is_the_teachers_channels_over_factor_wide(backbone) -> None:
    term = SimKD(backbone((3,)), backbone((8,)), factor=4)
    shapes = [tuple(layer.weight.shape) for layer in term.projector[::3]]
    assert shapes == [(2, 3, 1, 1), (2, 2, 3, 3), (8, 2, 1, 1)]


def deployed(backbone, strides=((1, 2), (1, 2))) -> tuple[Backbone, Backbone, nn.Module, Backbone]:
    student, teacher = backbone((2, 3), strides[0]), backbone((2, 4), strides[1])
    term = SimKD(student, teacher)
    return student, teacher, term, term.deployed(student)


@pytest.mark.parametrize("strides", [((1, 2), (1, 2)), ((1, 1), (1, 2)), ((1, 4), (1, 2))])
def test_what_is_deployed_answers_by_the_teachers_classifier(backbone, strides) -> None:
    student, teacher, term, network = deployed(backbone, strides)
    image = torch.randn(2, 3, 8, 8)
    network.eval()
    answer, own = network(image), student(image)
    size = min(student.shapes[-1][1], teacher.shapes[-1][1])
    f = term.projector(F.adaptive_avg_pool2d(own.features[-1], size))
    torch.testing.assert_close(answer.embedding, f.mean((2, 3)))
    torch.testing.assert_close(answer.logits, teacher.network.head(f.mean((2, 3))))
    torch.testing.assert_close(answer.features, own.features)
    assert network.num_classes == teacher.num_classes
    assert network.embedding_size == teacher.embedding_size
    assert network.classifier is teacher.classifier


def test_a_student_whose_projection_is_the_teachers_map_answers_as_the_teacher(backbone) -> None:
    student, teacher, term, network = deployed(backbone)
    image = torch.randn(2, 3, 8, 8)
    answer = teacher(image)
    term.projector.forward = lambda f: answer.features[-1]
    torch.testing.assert_close(network(image).logits, answer.logits)
    assert term(student(image), answer, None).item() == 0


def test_what_is_deployed_is_the_trained_modules_and_weights_that_come_later(backbone) -> None:
    student, teacher, term, network = deployed(backbone)
    image = torch.randn(2, 3, 8, 8)
    network.eval()
    for part in (student.network.stages, term.projector, teacher.network.head):
        before = network(image).logits
        other = {k: torch.rand_like(v.float()) for k, v in part.state_dict().items()}
        part.load_state_dict(other)
        assert not torch.equal(network(image).logits, before)


def test_another_students_weights_may_be_deployed(backbone) -> None:
    student, _, term, network = deployed(backbone)
    averaged = copy.deepcopy(student)
    nn.init.normal_(averaged.network.stages[0][0].weight)
    image = torch.randn(2, 3, 8, 8)
    answer = term.deployed(averaged).eval()(image)
    torch.testing.assert_close(answer.features, averaged(image).features)
    assert not torch.equal(answer.logits, network.eval()(image).logits)


def test_the_deployed_weights_bear_the_names_of_their_parts(backbone) -> None:
    student, teacher, term, network = deployed(backbone)
    names = {
        *(f"student.{name}" for name in student.network.state_dict()),
        *(f"projector.{name}" for name in term.projector.state_dict()),
        *(f"classifier.{name}" for name in teacher.network.head.state_dict()),
    }
    assert network.network.state_dict().keys() == names
    counted = sum(p.numel() for p in network.parameters())
    parts = (student.network, term.projector, teacher.network.head)
    assert counted == sum(p.numel() for part in parts for p in part.parameters())


def test_a_copy_of_what_is_deployed_stands_alone(backbone) -> None:
    _, _, term, network = deployed(backbone)
    image = torch.randn(2, 3, 8, 8)
    alone = copy.deepcopy(network).eval()
    expected = alone(image).logits
    nn.init.normal_(term.projector[0].weight)
    torch.testing.assert_close(alone(image).logits, expected, rtol=0, atol=0)


def test_the_teachers_classifier_is_not_the_terms_to_train_or_save(backbone) -> None:
    _, _, term, _ = deployed(backbone)
    assert {name.split(".")[0] for name, _ in term.named_parameters()} == {"projector"}
    assert {name.split(".")[0] for name in term.state_dict()} == {"projector"}


@pytest.mark.parametrize("factor", [0, 5])
def test_a_factor_that_leaves_no_channel_is_refused(backbone, factor) -> None:
    with pytest.raises(ValueError, match=f"factor takes an int from 1 to 4, not {factor}"):
        SimKD(backbone(), backbone((2, 3, 4)), factor=factor)
