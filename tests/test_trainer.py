"""The loop: what it adds up, what it survives, and that looking changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kdframe import checkpoint
from kdframe.backbones import Backbone, Output
from kdframe.datasets import InMemory
from kdframe.distillation import Distillation, Term
from kdframe.finite import Watch
from kdframe.hooks import Hook
from kdframe.loading import Loader
from kdframe.plan import Diverged, Plan, seed_of
from kdframe.registry import DISTILLERS, HOOKS
from kdframe.signals import Stopped
from kdframe.trainer import Trainer

CPU = torch.device("cpu")
PLAN = Plan(epochs=3, batch_size=8, schedule=lambda where: 0.1 * (1 - where), seed=3)


def backbone(width: int, norm: bool = True) -> Backbone:
    def answer(network, image):
        feature = network[1](network[0](image)).relu()
        embedding = network[2](feature.mean(dim=(2, 3)))
        return Output(network[3](embedding), embedding, [image, feature])

    norms = nn.BatchNorm2d(width) if norm else nn.Identity()
    dropout = nn.Dropout(0.5 if norm else 0.0)
    layers = nn.Sequential(nn.Conv2d(3, width, 3), norms, dropout, nn.Linear(width, 4))
    return Backbone(layers, answer, (3, 8, 8))


def trainer(folder: Path, plan: Plan = PLAN, hooks=(), norm: bool = True, **more) -> Trainer:
    """A tiny student and teacher on 40 random images, 8 of them for validation."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    data = InMemory(images, torch.arange(40) % 4, "abcd", (0.5,) * 3, (0.25,) * 3)
    torch.manual_seed(1)
    student, teacher = backbone(6, norm), backbone(8, norm)
    feature = DISTILLERS["feature"](student, teacher)
    terms = [Term("cross_entropy", DISTILLERS["cross_entropy"]), Term("feature", feature, 0.5)]
    model = Distillation(student, teacher, terms)
    loaders = [
        Loader(data, items, device=CPU, augment="crop_flip", seed=plan.seed)
        for items in torch.arange(40).split([32, 8])
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Trainer(model, *loaders, optimizer, plan, folder, hooks, **more)


def weights(t: Trainer) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in t.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("turn", [1, -1])
def test_hooks_change_nothing_that_is_learned_in_any_order(tmp_path, turn) -> None:
    alone = trainer(tmp_path)
    alone.train()
    watched = trainer(tmp_path, hooks=[HOOKS[name](tmp_path) for name in list(HOOKS)[::turn]])
    watched.train()
    assert same(weights(alone), weights(watched))
    assert alone.history == watched.history


class StopAt(Hook):
    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def after_step(self, trainer) -> None:
        self.seen = trainer.step

    def asked(self) -> int:
        return 15 if self.seen == self.step else 0


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("step", [3, 4, 6, 12])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(tmp_path, step, ema) -> None:
    """Steps 4 and 12 are the ends of epochs: a stop there comes before their evaluation."""
    plan = replace(PLAN, ema=ema)
    whole = trainer(tmp_path / "whole", plan)
    (tmp_path / "whole").mkdir()
    whole.train()
    folder = tmp_path / "parts"
    folder.mkdir()
    stop = StopAt(step)
    with pytest.raises(Stopped) as error:
        trainer(folder, plan, [stop], asked=stop.asked).train()
    assert error.value.exit_code == 143
    resumed = trainer(folder, plan)
    state = checkpoint.newest(folder / "checkpoints")
    assert state is not None and state["step"] == step
    resumed.load(state)
    resumed.train()
    assert same(weights(whole), weights(resumed))
    assert same(whole.deployed.state_dict(), resumed.deployed.state_dict())
    assert whole.history == resumed.history and whole.best == resumed.best
    best = "student_best.safetensors"
    assert (folder / best).read_bytes() == (tmp_path / "whole" / best).read_bytes()


def test_accumulated_parts_give_the_step_of_the_whole_batch(tmp_path) -> None:
    """Without BatchNorm and dropout the mean of equal parts' gradients is the batch's."""
    whole = trainer(tmp_path, norm=False)
    whole.train()
    parts = trainer(tmp_path, replace(PLAN, accumulate=4), norm=False)
    parts.train()
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor)


def test_the_average_follows_the_student_and_is_what_is_deployed(tmp_path) -> None:
    """timm's average is the student itself for two steps, and decays from there."""
    t = trainer(tmp_path, replace(PLAN, ema=0.75, epochs=2))
    expected = weights(t)["student.network.0.weight"]

    class Follow(Hook):
        def after_step(self, trainer) -> None:
            nonlocal expected
            now = weights(trainer)["student.network.0.weight"]
            expected = now if trainer.step <= 2 else 0.75 * expected + 0.25 * now

    t.hooks = [Follow()]
    t.train()
    assert t.deployed is not t.model.student
    torch.testing.assert_close(t.deployed.network[0].weight.detach(), expected)


def test_a_gradient_is_clipped_to_its_norm(tmp_path) -> None:
    t = trainer(tmp_path, replace(PLAN, clip_grad=1e-3))
    norms = []
    t.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            torch.cat([p.grad.flatten() for p in t.model.parameters()]).norm().item()
        )
    )
    t.train()
    assert norms == pytest.approx([1e-3] * 12, rel=1e-3)


def test_the_learning_rate_follows_the_schedule(tmp_path) -> None:
    rates = []

    class Rate(Hook):
        def after_step(self, trainer) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer(tmp_path, hooks=[Rate()]).train()
    assert rates == pytest.approx([0.1 * (1 - i / 12) for i in range(12)])


def test_the_term_that_is_not_finite_is_named_with_its_step(tmp_path) -> None:
    t = trainer(tmp_path)
    calls = []

    def bad(student, teacher, batch):
        calls.append(1)
        return student.logits.sum() * (float("nan") if len(calls) == 3 else 0.0)

    t.model.terms = (*t.model.terms, Term("bad", bad))
    t.sums = t.no_sums()
    before = None

    class Keep(Hook):
        def after_step(self, trainer) -> None:
            nonlocal before
            before = weights(trainer)

    t.hooks = [Keep()]
    with pytest.raises(Diverged, match=r"diverged at step 2: bad isn't finite"):
        t.train()
    assert before is not None
    parameters = dict(t.model.named_parameters())
    assert all(torch.equal(parameters[k], before[k]) for k in parameters)  # no update with it
    assert not (tmp_path / "checkpoints").exists()


class Root(torch.autograd.Function):
    """0, with a gradient that isn't finite from the fourth call on: the square root's at 0."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        return x.sum() * 0

    @staticmethod
    def backward(ctx, gradient):
        Root.calls += 1
        return gradient.new_full((8, 4), float("inf") if Root.calls > 3 else 0.0)


def rooted(folder: Path, **more) -> Trainer:
    """A training whose loss stays finite, and whose gradient isn't from step 3 on."""
    Root.calls = 0
    t = trainer(folder, **more)
    t.model.terms = (*t.model.terms, Term("root", lambda s, *_: Root.apply(s.logits)))
    t.sums = t.no_sums()
    return t


def test_a_gradient_that_is_not_finite_ends_the_run_before_the_update(tmp_path) -> None:
    t, kept = rooted(tmp_path), []
    t.hooks = [After(lambda: kept.append(weights(t)))]
    with pytest.raises(Diverged, match=r"at step 3: the gradient of student\.network\.0\.weight"):
        t.train()
    parameters = dict(t.model.named_parameters())
    assert len(kept) == 3 and all(torch.equal(p, kept[-1][n]) for n, p in parameters.items())
    assert not list(tmp_path.rglob("*.pt"))


class After(Hook):
    def __init__(self, call) -> None:
        self.call = call

    def after_step(self, trainer) -> None:
        self.call()


def test_without_a_look_at_every_step_no_update_follows_a_bad_one(tmp_path) -> None:
    """As on an accelerator: the step is known afterwards, and the weights are those before it."""
    t, kept = rooted(tmp_path), []
    t.optimizer = torch.optim.SGD(t.model.parameters(), lr=0.1, momentum=0.9, fused=True)
    t.watch = Watch(t.model, t.optimizer, t.scaler, CPU, every=10)
    t.steps_per_epoch, t.epochs = 12, 1
    t.batches = lambda epoch, first=0: (
        batch for _ in range(3) for batch in t.train_loader.train(0, 8)
    )
    t.hooks = [After(lambda: kept.append(weights(t)))]
    with pytest.raises(Diverged, match="at step 3: the gradient"):
        t.train()
    parameters = dict(t.model.named_parameters())
    assert len(kept) == 10 and all(torch.equal(p, kept[2][n]) for n, p in parameters.items())
    assert not torch.equal(kept[1]["student.network.0.weight"], kept[2]["student.network.0.weight"])
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_scaler_does_not_leave_out_steps_for_ever(tmp_path, what) -> None:
    """400 of them raised nothing under a GradScaler of torch alone."""
    t = rooted(tmp_path, plan=replace(PLAN, epochs=100))
    t.scaler = torch.amp.GradScaler("cpu")
    t.watch = Watch(t.model, t.optimizer, t.scaler, CPU)
    if what == "loss":
        bad = Term("bad", lambda s, *_: s.logits.sum() * float("nan"))
        t.model.terms, t.model.precision = (bad,), torch.float32
        t.sums = t.no_sums()
    with pytest.raises(Diverged) as error:
        t.train()
    said = "at step 0: bad isn't finite" if what == "loss" else "fp16's loss scale has fallen"
    assert said in str(error.value) and t.step < 50


def test_statistics_that_are_not_finite_are_neither_saved_nor_the_best(tmp_path) -> None:
    """In training BatchNorm takes the batch's own, and the loss stays finite."""
    t = trainer(tmp_path)

    def spoil() -> None:
        if t.step == 2:
            t.model.student.network[1].running_var[0] = float("inf")

    t.hooks = [After(spoil)]
    with pytest.raises(Diverged, match=r"by step 4: a weight isn't finite, 1\.running_var"):
        t.train()
    assert not list(tmp_path.iterdir())
    with pytest.raises(Diverged, match=r"a weight isn't finite, student\.1\.running_var"):
        t.save()
    assert not list(tmp_path.iterdir())


def test_a_network_whose_nll_is_not_finite_cannot_become_the_best(tmp_path) -> None:
    t = trainer(tmp_path)
    known = t.evaluate

    def spoiled(loader) -> dict:
        found = known(loader)
        if t.epoch == 1:
            found["student"] |= {"top1": 100.0, "nll": float("nan")}
        return found

    t.evaluate = spoiled
    t.train()
    assert t.best == max(row["val/top1"] for row in t.history if row["epoch"] != 2) < 100


def test_a_term_s_mean_is_over_the_steps_in_which_it_was_on(tmp_path) -> None:
    t = trainer(tmp_path, replace(PLAN, epochs=1))
    t.model.terms = (t.model.terms[0], replace(t.model.terms[1], start=0.5))
    seen = []
    t.hooks = [After(lambda: seen.append(t.terms.get("feature")))]
    t.train()
    on = [float(value) for value in seen if value is not None]
    assert len(seen) == 4 and len(on) == 2
    assert t.history[0]["train/feature"] == pytest.approx(sum(on) / 2, rel=1e-6)


def test_the_best_from_before_a_restart_stands(tmp_path) -> None:
    def falling(t: Trainer) -> Trainer:
        known = t.evaluate

        def evaluate(loader) -> dict:
            found = known(loader)
            found["student"]["top1"] = 90.0 - t.epoch
            return found

        t.evaluate = evaluate
        return t

    stop, path = StopAt(8), tmp_path / "student_best.safetensors"  # after two epochs
    with pytest.raises(Stopped):
        falling(trainer(tmp_path, hooks=[stop], asked=stop.asked)).train()
    best = path.read_bytes()
    t = falling(trainer(tmp_path))
    t.load(checkpoint.newest(tmp_path / "checkpoints"))
    t.train()
    assert len(t.history) == 3 and t.best == 90 and path.read_bytes() == best


@pytest.mark.parametrize("lost", [True, False])
def test_a_best_that_is_gone_or_of_a_stretch_that_was_lost_is_looked_for_anew(
    lost, tmp_path
) -> None:
    """One whose digest isn't the checkpoint's was saved after it, and may never be met again."""
    stop, path = StopAt(8), tmp_path / "student_best.safetensors"  # after two epochs
    with pytest.raises(Stopped):
        trainer(tmp_path, hooks=[stop], asked=stop.asked).train()
    if lost:
        path.unlink()
    else:
        checkpoint.save_weights(path, {"w": torch.ones(1)}, {"of": "a later epoch"})
    t = trainer(tmp_path)
    t.load(checkpoint.newest(tmp_path / "checkpoints"))
    t.evaluate = lambda loader: {"student": dict.fromkeys(("top1", "top5", "nll", "ece"), 0.0)}
    t.train()
    assert t.best == 0
    assert checkpoint.load_weights(path)[0].keys() == t.deployed.network.state_dict().keys()


def test_a_best_from_before_a_run_was_made_longer_is_of_the_longer_run(tmp_path) -> None:
    """Or it could not be exported: its header would name the config of another run."""
    stop, path = StopAt(8), tmp_path / "student_best.safetensors"
    with pytest.raises(Stopped):
        trainer(tmp_path, hooks=[stop], asked=stop.asked).train()
    before = checkpoint.load_weights(path)[0]
    t = trainer(tmp_path, replace(PLAN, about={"config": "longer"}))
    t.load(checkpoint.newest(tmp_path / "checkpoints"))
    after, about = checkpoint.load_weights(path)
    assert about == {"config": "longer"} and t.best > 0
    assert checkpoint.digest(after) == checkpoint.digest(before) == t.best_digest


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path) -> None:
    t = trainer(tmp_path)
    with torch.no_grad():
        t.model.student.network[3].bias[0] = float("inf")
    with pytest.raises(Diverged, match="a weight isn't finite"):
        t.save()
    assert not (tmp_path / "checkpoints").exists()


def test_a_save_on_request_goes_on_and_a_checkpoint_is_kept(tmp_path) -> None:
    stop = StopAt(5)
    t = trainer(tmp_path, hooks=[stop], asked=lambda: 10 if stop.seen == 5 else 0)
    t.train()
    names = {p.name for p in (tmp_path / "checkpoints").glob("*.pt")}
    assert names == {"step_5.pt", "step_12.pt"}


def test_the_seed_of_a_step_is_its_own() -> None:
    assert seed_of(0, 1) == seed_of(0, 1)
    assert len({seed_of(0, 1), seed_of(0, 2), seed_of(1, 1), seed_of(0, 1, 1)}) == 4
