"""Figures against arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.evaluation import chance, evaluate, quickest
from kdframe.registry import BACKBONES

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


def drawn() -> tuple[Backbone, list[Batch]]:
    """A small ResNet, as if trained, and 30 images in three batches."""
    torch.manual_seed(0)
    network = BACKBONES["cifar_resnet"](4, depth=8, width=4)
    network.input_size = (3, 8, 8)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.uniform_(0.5, 1.5)
            norm.running_mean.normal_(0, 0.3)
    images, targets = torch.randn(30, 3, 8, 8), torch.arange(30) % 4
    return network, [Batch(images[i], targets[i], i, 0.0) for i in torch.arange(30).split(10)]


def test_a_folded_copy_is_asked_from_the_second_batch_on_and_measures_the_same() -> None:
    network, data = drawn()
    expected = torch.cat([network.eval()(batch.image).logits for batch in data])
    itself = []
    network.register_forward_hook(lambda m, *_: itself.append(m is network))
    found = evaluate({"test": network}, data, CPU)["test"]
    target = torch.arange(30) % 4
    assert itself == [True, False, False]
    assert found["nll"] == pytest.approx(F.cross_entropy(expected, target).item(), rel=1e-5)
    assert found["top1"] == pytest.approx(
        100 * (expected.argmax(dim=1) == target).double().mean().item()
    )


def test_a_network_that_folding_would_change_is_asked_itself() -> None:
    network, data = drawn()
    plain, itself = network.answer, []

    def answer(layers: nn.Module, image: torch.Tensor) -> Output:
        output = plain(layers, image)
        return output._replace(logits=output.logits + layers.conv1.weight.sum())

    network.answer = answer
    network.register_forward_hook(lambda m, *_: itself.append(m is network))
    evaluate({"test": network}, data, CPU)
    assert itself == [True, True, True]


def test_a_compiled_network_is_asked_itself() -> None:
    network, data = drawn()
    network.compile(backend="eager")
    assert quickest(network, data[0].image, torch.float32) is network


def test_half_precision_measures_a_folded_copy_too() -> None:
    network, data = drawn()
    exact = evaluate({"test": network}, data, CPU)["test"]
    half = evaluate({"test": network}, data, CPU, torch.bfloat16)["test"]
    assert half["nll"] == pytest.approx(exact["nll"], rel=1e-2) and half["nll"] != exact["nll"]


def test_chance_is_a_guess_and_three_standard_errors() -> None:
    assert chance(10, 900) == pytest.approx(100 * (0.1 + 3 * math.sqrt(0.09 / 900)))
