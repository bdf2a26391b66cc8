"""Reliability and classes: by hand, and against what the closing table says."""

import pytest
import torch

from kdframe.evaluation import Tally
from kdframe.reports.calibration import by_class, reliability


def logits_of(p: list[float]) -> torch.Tensor:
    """Two classes, of which the first has these probabilities."""
    first = torch.tensor(p, dtype=torch.float64)
    return torch.stack((first, 1 - first), dim=1).log()


def test_a_diagram_by_hand() -> None:
    """Confidences .95 and .92 (one right), .6 (wrong): two bins of ten."""
    logits, target = logits_of([0.95, 0.08, 0.6]), torch.tensor([0, 0, 1])
    found = reliability(logits, target, bins=10)
    assert found.count == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert found.accuracy == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.confidence[9] == pytest.approx(0.95 + 0.92)
    assert found.ece == pytest.approx((0.6 + 0.87) / 3)


def test_its_ece_is_that_of_the_closing_table() -> None:
    logits, target = 3 * torch.randn(500, 10), torch.randint(0, 10, (500,))
    tally = Tally(torch.device("cpu"))
    tally.add(logits, target, torch.zeros(500))
    assert reliability(logits, target).ece == pytest.approx(tally.result()["ece"])


def test_classes_by_hand() -> None:
    logits = torch.eye(4)[[0, 1, 1, 2]]
    assert by_class(logits, torch.tensor([0, 1, 2, 2])) == ([1, 1, 2, 0], [1, 1, 1, 0])
