import pytest
import torch
from torch import nn

from kdframe.backbones import Backbone, Output
from kdframe.reports import latency
from kdframe.reports.latency import as_markdown, seconds

CPU = torch.device("cpu")


class Clock:
    """Stands still but for the passes: a machine with other work can't spoil the test."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


clock = Clock()


def sleepy(network: nn.Module, image: torch.Tensor) -> Output:
    """Takes 5 ms an image in eval mode, and fails in training."""
    assert not network.training
    clock.now += 0.005 * len(image)
    embedding = image.mean(dim=(2, 3))
    return Output(network(embedding), embedding, [image])


def test_a_pass_takes_what_its_images_take(monkeypatch) -> None:
    monkeypatch.setattr(latency, "time", clock)
    backbone = Backbone(nn.Linear(3, 2), sleepy, (3, 4, 4)).train()
    assert seconds(backbone, 1, CPU, at_least=0.05) == pytest.approx(0.005)
    assert seconds(backbone, 8, CPU, at_least=0.05) == pytest.approx(0.040)
    assert backbone.training


def test_the_page_has_milliseconds_and_images_per_second() -> None:
    page = as_markdown({"student": {1: 0.002, 128: 0.064}}, CPU)
    assert "| student |      1 |      2.00 |      500 |\n" in page
    assert "| student |    128 |     64.00 |    2,000 |\n" in page
