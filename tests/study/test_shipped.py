"""The studies in configs/."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.registry import BACKBONES, DISTILLERS
from kdframe.study.planning import plan
from kdframe.study.written import read_study
from kdframe.teacher_cache import NotKept

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs/studies").glob("*.yaml"))
CLASSES = 5


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_whole_and_its_head_has_its_command(path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    name = path.relative_to(ROOT)
    assert f"#   tools/run_study.py --study {name}\n" in path.read_text()
    study = plan(read_study(name))
    assert not [note for note in study.notes if note.startswith("warning")]


def test_the_report_is_four_rows_and_one_teacher(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = plan(read_study("configs/studies/report.yaml")).runs
    assert [*runs][:4] == ["teacher/s0", "student/s0", "student/s1", "student/s2"]
    assert len(runs) == 10


def looks_at_logits_alone(name: str) -> bool:
    """Whether a term does without maps and embeddings, and isn't the labels' own."""
    network = BACKBONES["cifar_resnet"](CLASSES, depth=8, width=4)
    part: Any = DISTILLERS[name]
    needs = DISTILLERS.needs(name)
    if "preactivations" in needs or name == "cross_entropy":
        return False
    if isinstance(part, type):
        try:
            term = part(network, network)
        except ValueError:
            return False
        if hasattr(term, "set_labels"):
            term.set_labels(torch.arange(20) % CLASSES)
    else:
        term = part
    torch.manual_seed(1)
    logits = torch.randn(2, 8, CLASSES)
    batch = Batch(torch.zeros(8, 3, 32, 32), torch.arange(8) % CLASSES, torch.arange(8), 0.0)
    values = []
    for _ in range(2):
        student, teacher = (Output(z, torch.randn(8, 16), NotKept()) for z in logits)
        try:
            values.append(term(student, (teacher,) * 2 if "teachers" in needs else teacher, batch))
        except ValueError:
            return False
    return bool(values[0] == values[1])


def test_the_quick_study_has_every_method_that_looks_at_logits_alone() -> None:
    rows = yaml.safe_load((ROOT / "configs/studies/quick.yaml").read_text())["ROWS"]
    named = {
        term.partition("/")[0]
        for row in rows.values()
        for term, given in row.get("OVERRIDES", {}).get("LOSS", {}).items()
        if given is not None
    }
    found = {name for name in DISTILLERS if looks_at_logits_alone(name)}
    installed = {name for name in found if DISTILLERS[name].__module__.startswith("kdframe.")}
    assert {"kd", "dkd", "mlkd", "ctkd", "kd_ensemble"} <= installed and "feature" not in installed
    assert named - {"cross_entropy"} == installed
