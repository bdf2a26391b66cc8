"""Figures against arithmetic."""

import math

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.evaluation import chance, evaluate

CPU = torch.device("cpu")


class Fixed(nn.Module):
    """Answers the logits that it was given, by the image's first pixel."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))


def fixed(logits: list[list[float]]) -> Backbone:
    def answer(network: nn.Module, image: torch.Tensor) -> Output:
        chosen = network.logits[image[:, 0, 0, 0].long()]
        return Output(chosen, chosen, [image])

    return Backbone(Fixed(logits), answer)


def batches(targets: list[int], sizes: list[int]):
    numbers, target = torch.arange(len(targets)), torch.tensor(targets)
    images = numbers.float()[:, None, None, None].expand(-1, 3, 2, 2)
    for part in numbers.split(sizes):
        yield Batch(images[part], target[part], part, 0.0)


def test_accuracy_nll_and_calibration_by_hand() -> None:
    """p = (.9, .1), (.6, .4), (.2, .8), with targets 0, 1, 1."""
    p = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]
    network = fixed([[math.log(x) for x in row] for row in p])
    found = evaluate({"test": network}, batches([0, 1, 1], [2, 1]), CPU)["test"]
    assert found["top1"] == pytest.approx(200 / 3)
    assert found["top5"] == 100
    assert found["nll"] == pytest.approx(-math.log(0.9 * 0.4 * 0.8) / 3)
    # .9 is in bin 14 of 15, .6 in bin 9, .8 in bin 12: each alone, |confidence - hit|
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.2) / 3, rel=1e-6)
    assert found["images"] == 3 and "agreement" not in found


def test_images_of_one_bin_balance_each_other() -> None:
    p = [[0.64, 0.36], [0.65, 0.35]]
    network = fixed([[math.log(x) for x in row] for row in p])
    found = evaluate({"test": network}, batches([0, 1], [2]), CPU)["test"]
    assert found["ece"] == pytest.approx(abs(0.64 - 1 + 0.65) / 2, rel=1e-6)


def test_top5_counts_a_target_among_the_five_largest() -> None:
    network = fixed([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 2)
    found = evaluate({"test": network}, batches([4, 5], [2]), CPU)["test"]
    assert found["top1"] == 0 and found["top5"] == 50


def test_agreement_is_with_the_class_that_the_teacher_names() -> None:
    student, teacher = fixed([[1.0, 0.0], [1.0, 0.0]]), fixed([[2.0, 0.0], [0.0, 2.0]])
    found = evaluate({"test": student, "teacher": teacher}, batches([1, 1], [1, 1]), CPU)
    assert found["test"]["agreement"] == 50 and found["teacher"]["agreement"] == 100
    assert found["teacher"]["top1"] == 50


def test_evaluation_leaves_the_training_mode_as_it_was() -> None:
    network = fixed([[1.0, 0.0]])
    network.train()
    evaluate({"test": network}, batches([0], [1]), CPU)
    assert network.training


def test_chance_is_a_guess_and_three_standard_errors() -> None:
    assert chance(10, 900) == pytest.approx(100 * (0.1 + 3 * math.sqrt(0.09 / 900)))
