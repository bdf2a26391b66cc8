"""What is asked of a run's networks, on networks that no run had to train."""

import torch
import yaml

from kdframe import analysis, build
from kdframe.config import load
from kdframe.rebuilt import Rebuilt

CPU = torch.device("cpu")
NETWORK = {"NAME": "cifar_resnet", "DEPTH": 8, "WIDTH": 4, "STRIDE": 2}
DML = {
    "DATASET": {"NAME": "glyphs", "TRAIN": 144, "TEST": 36, "VAL": 0},
    "STUDENT": NETWORK,
    "TEACHER": {**NETWORK, "TRAIN": True},
    "SOLVER": {"EPOCHS": 2, "BATCH_SIZE": 72},
    "LOSS": {"cross_entropy": None, "dml": {"WARMUP": 20, "WEIGHT": 0.001}},
}


def moments(tmp_path, monkeypatch, scale: float, **loss) -> list[dict]:
    """Of a run whose partner ended with logits of that scale, as its checkpoint has it."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**DML, "LOSS": {**DML["LOSS"], **loss}}))
    config = load(tmp_path / "run.yaml")
    data = build.build_data(config, CPU)
    student, named = build.build_networks(config, data)
    partner = named["TEACHER"]
    with torch.no_grad():
        list(partner.network.parameters())[-2].mul_(scale)
    state = {"student": student.network.state_dict(), "learned": {}, "step": 4,
             "partner": partner.network.state_dict()}  # fmt: skip
    monkeypatch.setattr(analysis.checkpoint, "newest", lambda folder: state)
    run = Rebuilt(config, data, {"student": student, "teacher": partner})
    found = analysis.gradients(run, tmp_path, CPU)
    assert run.notes == []
    return found


def test_a_partner_is_asked_as_it_was_at_that_step(tmp_path, monkeypatch) -> None:
    first, last = moments(tmp_path, monkeypatch, 100.0)
    same, _ = moments(tmp_path, monkeypatch, 1.0)
    assert first == same
    assert last["terms"]["dml"]["value"] > 3 * first["terms"]["dml"]["value"]


def test_the_batches_are_counted_and_a_term_that_warms_up_is_not_warned_of(
    tmp_path, monkeypatch
) -> None:
    first, last = moments(tmp_path, monkeypatch, 1.0, cross_entropy={})
    assert (first["batches"], last["batches"]) == (2, 2)
    assert first["terms"]["dml"]["share"] < last["terms"]["dml"]["share"] < 0.01
    assert first["warnings"] == last["warnings"] == {}
