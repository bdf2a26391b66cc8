"""Every registered term in a real training: what it learns is trained, saved and resumed."""

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kdframe import build, checkpoint
from kdframe.build import Data
from kdframe.config import Config, load
from kdframe.dry_run import seconds_a_step
from kdframe.evaluation import evaluate
from kdframe.plan import Diverged
from kdframe.registry import DISTILLERS
from kdframe.reports.summary import header, table
from kdframe.run import finish
from kdframe.signals import Stopped
from kdframe.trainer import Trainer
from kdframe.trial import tried

CONFIG = """
DATASET: {{NAME: glyphs, TRAIN: 56, TEST: 36, VAL: 8}}
STUDENT: {{NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}}
TEACHER: {{NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random}}
LOSS: {{{term}}}
SOLVER: {{EPOCHS: 1, BATCH_SIZE: 12, LR: 0.01, WEIGHT_DECAY: 0}}
DEVICE: cpu
"""
OPTIONS = {
    "ctkd": "EPOCHS: 1",
    "crd": "NEGATIVES: 8",
    "ft": "EPOCHS: 1",
    "semckd": "BATCH_SIZE: 12",
}
STATEFUL = [name for name in DISTILLERS if inspect.isclass(DISTILLERS[name])]


def written(folder: Path, name: str) -> Config:
    beside = "" if name == "cross_entropy" else ", cross_entropy: {}"
    path = folder / f"{name}.yaml"
    path.write_text(CONFIG.format(term=f"{name}: {{{OPTIONS.get(name, '')}}}{beside}"))
    return load(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    config = written(tmp_path_factory.mktemp("data"), "kd")
    return build.build_data(config, torch.device("cpu"))


def trainer(config: Config, data: Data, folder: Path, **more) -> Trainer:
    folder.mkdir(exist_ok=True)
    student, teachers = build.build_networks(config, data)
    made = build.build_trainer(config, data, student, teachers, folder, **more)
    made.hooks = []
    return made


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of student, terms and optimizer, flat."""
    whole = {f"model.{k}": v.clone() for k, v in trainer.model.state_dict().items()}
    for name, of in checkpoint.by_name(trainer.model, trainer.optimizer).items():
        whole |= {f"{name}.{k}": v.clone() for k, v in of.items() if isinstance(v, torch.Tensor)}
    return whole


@pytest.mark.parametrize("name", list(DISTILLERS))
def test_a_stopped_and_resumed_training_ends_with_the_same_bits(tmp_path, data, name) -> None:
    config = written(tmp_path, name)
    whole = trainer(config, data, tmp_path / "whole")
    start = state(whole)
    whole.train()
    parts: list[Trainer] = []
    first = trainer(
        config, data, tmp_path / "parts", asked=lambda: 15 if parts and parts[0].step == 2 else 0
    )
    parts.append(first)
    with pytest.raises(Stopped):
        first.train()
    second = trainer(config, data, tmp_path / "parts")
    found = checkpoint.newest(tmp_path / "parts/checkpoints")
    assert found is not None and found["step"] == 2
    second.load(found)
    second.train()
    ends = state(whole), state(second)
    assert ends[0].keys() == ends[1].keys() >= start.keys()
    assert [k for k in ends[0] if not torch.equal(ends[0][k], ends[1][k])] == []
    assert whole.history == second.history
    assert whole.deployed.network.state_dict().keys() == found["deployed"].keys()


@pytest.mark.parametrize("name", list(DISTILLERS))
def test_there_is_nothing_to_remark_on_in_a_term_of_ours(tmp_path, data, name) -> None:
    model = trainer(config := written(tmp_path, name), data, tmp_path / "run").model
    views = any("views" in term.needs for term in model.terms)
    batch = next(data.train.train(0, config.tree.SOLVER.BATCH_SIZE, views=views))
    before = checkpoint.digest(model.state_dict())
    assert list(map(str, tried(model, batch, seed=0))) == []
    assert checkpoint.digest(model.state_dict()) == before


@pytest.mark.parametrize("name", [name for name in DISTILLERS if DISTILLERS.needs(name)])
def test_the_steps_of_a_dry_run_have_what_a_term_needs(tmp_path, data, name) -> None:
    made = trainer(written(tmp_path, name), data, tmp_path / "run")
    assert seconds_a_step(made, warm_up=0, timed=1) > 0


def test_every_teacher_is_told_and_measured_under_its_branch(tmp_path, data) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        CONFIG.format(term="kd_ensemble: {}")
        + "TEACHER/2: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 6, STRIDE: 2, WEIGHTS: random}\n"
        "TEACHER/10: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 2, STRIDE: 2, WEIGHTS: random}\n"
    )
    config = load(path)
    student, teachers = build.build_networks(config, data)
    assert list(teachers) == ["TEACHER", "TEACHER/10", "TEACHER/2"]
    (tmp_path / "run").mkdir()
    made = build.build_trainer(config, data, student, teachers, tmp_path / "run")
    lines = list(header(config, data, made))
    results = finish(made, data, teachers, None)
    for branch, teacher in teachers.items():
        name, count = branch.lower(), sum(p.numel() for p in teacher.parameters())
        assert any(line.startswith(f"{name}  cifar_resnet: {count:,} ") for line in lines)
        alone = evaluate({name: teacher}, data.test.all(12), torch.device("cpu"))[name]
        assert results[name]["nll"] == pytest.approx(alone["nll"])
        assert any(row.startswith(f" {name} ") for row in table(results, "here"))


def test_a_network_that_overflows_on_the_test_split_has_diverged(tmp_path, data) -> None:
    config, data = written(tmp_path, "kd"), data._replace(val=None)
    (tmp_path / "run").mkdir()
    student, teachers = build.build_networks(config, data)
    made = build.build_trainer(config, data, student, teachers, tmp_path / "run")
    made.hooks, made.step, made.history = [], made.steps, [{}]
    with torch.no_grad():
        student.classifier.weight.fill_(1e38)
        student.classifier.bias.fill_(1e38)
    with pytest.raises(Diverged, match="on the test split the nll of test isn't finite"):
        finish(made, data, teachers, None)


@pytest.mark.parametrize("name", STATEFUL)
def test_what_a_term_learns_is_trained_and_saved_and_stays_at_home(tmp_path, data, name) -> None:
    made = trainer(written(tmp_path, name), data, tmp_path / "run")
    made.plan = replace(made.plan, epochs=1)
    own = dict(made.model.learned.named_parameters())
    learned = {k: p for k, p in own.items() if p.requires_grad}
    in_optimizer = [p for group in made.optimizer.param_groups for p in group["params"]]
    assert all(sum(p is q for q in in_optimizer) == 1 for p in learned.values())
    assert not any(p is q for k, p in own.items() if k not in learned for q in in_optimizer)
    teacher = made.model.teacher
    assert teacher is not None
    assert not any(p is q for p in teacher.parameters() for q in in_optimizer)
    frozen = checkpoint.digest(teacher.state_dict())
    made.train()
    moved = checkpoint.by_name(made.model, made.optimizer)
    assert all(moved[f"learned.{k}"]["momentum_buffer"].any() for k in learned)
    assert checkpoint.digest(teacher.state_dict()) == frozen
    saved = checkpoint.newest(tmp_path / "run/checkpoints")
    assert saved is not None and saved["learned"].keys() == made.model.learned.state_dict().keys()
    assert saved["student"].keys() == made.model.student.network.state_dict().keys()
    if not hasattr(made.model.learned[name], "deployed"):
        made.save_weights("student.safetensors", made.deployed)
        weights, _ = checkpoint.load_weights(tmp_path / "run/student.safetensors")
        assert weights.keys() == saved["student"].keys()


def test_a_term_may_train_alone_before_the_others_begin(tmp_path, data) -> None:
    config = load(
        written(tmp_path, "ab").path,
        ["LOSS={ab: {STOP: 1}, cross_entropy: {START: 1}}", "SOLVER.EPOCHS=2", "SOLVER.LR=1e-4"],
    )
    made = trainer(config, data, tmp_path / "run")
    made.train()
    terms = [{key for key in epoch if key.startswith("train/")} for epoch in made.history]
    assert terms == [{"train/loss", "train/ab"}, {"train/loss", "train/cross_entropy"}]


def test_the_student_that_simkd_deploys_is_measured_saved_and_found_again(tmp_path, data) -> None:
    config = written(tmp_path, "simkd")
    made = trainer(config, data, tmp_path / "run")
    made.train()
    made.save_weights("student.safetensors", made.deployed)
    weights, _ = checkpoint.load_weights(tmp_path / "run/student.safetensors")
    classifier = made.model.teacher.classifier
    assert any(torch.equal(w, classifier.weight) for w in weights.values())
    fresh = build.build_deployed(config, 36, data.image)
    checkpoint.fit(weights, fresh.network, tmp_path / "run/student.safetensors")
    image = torch.randn(2, *data.image)
    for network in (fresh, made.deployed):
        network.eval()
    torch.testing.assert_close(fresh(image).logits, made.deployed(image).logits)
    assert not torch.allclose(made.model.student(image).logits, made.deployed(image).logits)
    measured = made.evaluate(data.test)["student"]["nll"]
    logits = torch.cat([fresh(batch.image).logits for batch in data.test.all(12)])
    target = torch.cat([batch.target for batch in data.test.all(12)])
    assert nn.functional.cross_entropy(logits, target).item() == pytest.approx(measured, rel=1e-5)


TOGETHER = """
import sys
from pathlib import Path

import torch

from kdframe import build, checkpoint, parallel
from kdframe.config import load
from tests_of import trainer, written

device = parallel.start("cpu")
names, folder = sys.argv[2:], Path(sys.argv[1])
for name in names:
    torch.manual_seed(parallel.rank())  # nothing may hang on a process's own generator
    config = load(folder / f"{name}.yaml")
    data = build.build_data(config, device)
    made = trainer(config, data, folder / name)
    made.train()
    weights = made.model.state_dict()
    # BatchNorm's averages are each process's own, and process 0's are saved
    kept = {k: v for k, v in weights.items() if "running_" not in k}
    digests = [None, None]
    torch.distributed.all_gather_object(digests, {k: checkpoint.digest({k: kept[k]}) for k in kept})
    differ = [k for k in kept if digests[0][k] != digests[1][k]]
    if parallel.rank() == 0:
        print(name, "differs in" if differ else "is alike", *differ[:3], flush=True)
parallel.finish()
"""


def test_what_a_term_keeps_and_learns_is_equal_on_two_processes(tmp_path) -> None:
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    (tmp_path / "tests_of.py").write_text(Path(__file__).read_text())
    for name in STATEFUL:
        written(tmp_path, name)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path), *STATEFUL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"{name} is alike" for name in STATEFUL]
