import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Output
from kdframe.registry import BACKBONES, DISTILLERS

CATKD = DISTILLERS["catkd"]


def output(feature: Tensor) -> Output:
    return Output(torch.empty(0), torch.empty(0), [feature])


def test_catkd_by_hand(backbone) -> None:
    """w = (2; -1) on 3 and on 1: (6, -3) against (2, -1), where the teacher's w is the same."""
    student, teacher = backbone((1,), num_classes=2), backbone((1,), num_classes=2)
    for network in (student, teacher):
        network.classifier.weight.data.copy_(torch.tensor([[2.0], [-1.0]]))
    term = CATKD(student, teacher, size=1)
    maps = (torch.tensor(v).view(1, 1, 1, 1) for v in (3.0, 1.0))
    assert term(*map(output, maps), None).item() == (4**2 + 2**2) / 2


@pytest.mark.parametrize("normalize", [False, True])
def test_catkd_is_the_naive_mean(backbone, normalize) -> None:
    student, teacher = backbone((3,)).double(), backbone((4,)).double()
    term = CATKD(student, teacher, size=2, normalize=normalize)
    maps = (
        torch.randn(2, 3, 4, 4, dtype=torch.float64),
        torch.randn(2, 4, 2, 2, dtype=torch.float64),
    )
    total = 0.0
    for n in range(2):
        A = []
        for f, network in zip(maps, (student, teacher), strict=True):
            w, side = network.classifier.weight.tolist(), f.shape[2]
            classes = []
            for k in range(5):
                camera = sum(w[k][c] * f[n, c] for c in range(f.shape[1])).tolist()
                cells, step = [], side // 2
                for top in (0, step):
                    for left in (0, step):
                        cell = [
                            camera[i][j]
                            for i in range(top, top + step)
                            for j in range(left, left + step)
                        ]
                        cells.append(sum(cell) / len(cell))
                norm = math.sqrt(sum(v * v for v in cells)) if normalize else 1.0
                classes.append([v / norm for v in cells])
            A.append(classes)
        for a, b in zip(*A, strict=True):
            total += sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (2 * 5 * 4)
    assert term(*map(output, maps), None).item() == pytest.approx(total)


def test_at_size_1_it_compares_logits_without_their_bias(backbone) -> None:
    student, teacher = backbone((3,)), backbone((4,))
    term = CATKD(student, teacher, size=1)
    maps = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 2, 2)
    logits = [
        network.classifier(f.mean((2, 3))) - network.classifier.bias
        for f, network in zip(maps, (student, teacher), strict=True)
    ]
    torch.testing.assert_close(term(*map(output, maps), None), F.mse_loss(*logits))


def test_maps_smaller_than_size_are_compared_at_the_smaller_ones_size(backbone) -> None:
    student, teacher = backbone((3,)), backbone((4,))
    maps = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 2, 2)
    large, exact = (CATKD(student, teacher, size=size) for size in (9, 2))
    assert torch.equal(large(*map(output, maps), None), exact(*map(output, maps), None))


def test_normalized_a_positive_scale_of_an_image_means_nothing(backbone) -> None:
    term = CATKD(backbone((4,)), backbone((4,)), normalize=True)
    student, teacher = torch.randn(2, 2, 4, 4, 4)
    scale = torch.tensor([0.1, 9.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(
        term(output(student * scale), output(teacher), None),
        term(output(student), output(teacher), None),
    )


def test_the_students_classifier_is_trained_and_is_not_the_terms_nor_is_the_teachers(
    backbone,
) -> None:
    student, teacher = backbone(), backbone()
    term = CATKD(student, teacher.requires_grad_(False))
    image = torch.randn(2, 3, 8, 8)
    term(student(image), teacher(image), None).backward()
    assert student.classifier.weight.grad.abs().sum() > 0
    assert teacher.classifier.weight.grad is None
    assert not list(term.parameters())
    assert not term.state_dict()
    both = nn.ModuleList((student, term))
    assert len(list(both.parameters())) == len(list(student.parameters()))


def test_a_copy_of_student_and_term_keeps_them_together(backbone) -> None:
    student = backbone()
    both = copy.deepcopy(nn.ModuleList((student, CATKD(student, backbone()))))
    assert both[1]._classifiers[0] is both[0].classifier


def test_equal_networks_score_0_and_building_leaves_them_as_they_were(backbone) -> None:
    student = backbone().train()
    before, drawn = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    term = CATKD(student, student)
    assert student.training
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.testing.assert_close(student.state_dict(), before)
    answer = student(torch.randn(2, 3, 8, 8))
    assert term(answer, answer, None).item() == 0


def test_a_residual_network_is_taken() -> None:
    network = BACKBONES["cifar_resnet"](3, depth=8)
    assert CATKD(network, network).size == 2


def test_other_numbers_of_classes_are_refused(backbone) -> None:
    with pytest.raises(ValueError, match=r"\(1, 5\) and the teacher's \(1, 6\)"):
        CATKD(backbone(), backbone(num_classes=6))


def test_a_wrong_size_is_refused(backbone) -> None:
    with pytest.raises(ValueError, match="size takes an int from 1, not 0"):
        CATKD(backbone(), backbone(), size=0)
