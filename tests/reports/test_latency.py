import time

import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.reports.latency import as_markdown, seconds

CPU = torch.device("cpu")


def sleepy(network: nn.Module, image: torch.Tensor) -> Output:
    """Takes 5 ms an image in eval mode, and fails in training."""
    assert not network.training
    time.sleep(0.005 * len(image))
    embedding = image.mean(dim=(2, 3))
    return Output(network(embedding), embedding, [image])


def test_a_pass_takes_what_its_images_take() -> None:
    backbone = Backbone(nn.Linear(3, 2), sleepy, (3, 4, 4)).train()
    assert seconds(backbone, 1, CPU, at_least=0.05) == pytest.approx(0.005, rel=0.5)
    assert seconds(backbone, 8, CPU, at_least=0.05) == pytest.approx(0.040, rel=0.5)
    assert backbone.training


def test_the_page_has_milliseconds_and_images_per_second() -> None:
    page = as_markdown({"student": {1: 0.002, 128: 0.064}}, CPU)
    assert "| student |      1 |      2.00 |      500 |\n" in page
    assert "| student |    128 |     64.00 |    2,000 |\n" in page
