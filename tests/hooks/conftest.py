from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.hooks import Hook


class KilledError(Exception):
    pass


def answer(network: nn.Module, image: Tensor) -> Output:
    feature = network[0](image)
    embedding = feature.mean(dim=(2, 3))
    return Output(network[1](embedding), embedding, [feature])


def backbone(width: int) -> Backbone:
    """(3, 8, 8) images, a 3x3 convolution, 5 classes."""
    network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.Linear(width, 5))
    return Backbone(network, answer, (3, 8, 8))


class StubTrainer:
    """What hooks may read; 3 epochs of 4 steps, and numbers that are functions of the step."""

    def __init__(self, output_dir: Path, validates: bool = True) -> None:
        self.output_dir, self.validates = output_dir, validates
        self.epochs, self.steps_per_epoch, self.batch_size = 3, 4, 10
        self.steps = 12
        self.step, self.images, self.lr = 0, 0, 0.0
        self.loss, self.terms = torch.zeros(()), {}
        self.metrics, self.history = {}, []
        student = backbone(4)
        self.model = SimpleNamespace(student=student, deployed=student, teacher=backbone(8))

    @property
    def epoch(self) -> int:
        return len(self.history)

    def train(self, hooks: Sequence[Hook], killed_at: float = float("inf")) -> None:
        """Goes on to the end, or to step ``killed_at`` (x.5: after the evaluation that follows)."""
        self.call(hooks, "before_train")
        while self.epoch < self.epochs:
            if self.step == killed_at:
                raise KilledError
            if self.epoch < self.step // self.steps_per_epoch:
                self.end_epoch(hooks)
            else:
                self.train_step(hooks)
            if self.step + 0.5 == killed_at and self.epoch * self.steps_per_epoch == self.step:
                raise KilledError
        self.call(hooks, "after_train")

    def train_step(self, hooks: Sequence[Hook]) -> None:
        self.step += 1
        self.images += self.batch_size
        self.lr = 0.1 / self.step
        self.terms = {"cross_entropy": torch.tensor(1 / self.step), "kd": torch.tensor(0.25)}
        self.loss = sum(self.terms.values())
        self.call(hooks, "after_step")

    def end_epoch(self, hooks: Sequence[Hook]) -> None:
        number = self.epoch + 1
        self.metrics = {"train/loss": 2 / number, "train/cross_entropy": 1 / number}
        if self.validates:
            self.metrics |= {"val/top1": 20.0 * number, "val/nll": 1 / number}
        self.history.append({"epoch": number, **self.metrics})
        self.call(hooks, "after_epoch")

    def resume_at(self, step: int) -> "StubTrainer":
        """A trainer that has read the checkpoint of that step, written before evaluation."""
        other = StubTrainer(self.output_dir, self.validates)
        other.step = step
        for _ in range(max(step - 1, 0) // self.steps_per_epoch):
            other.end_epoch([])
        return other

    def call(self, hooks: Sequence[Hook], moment: str) -> None:
        for hook in hooks:
            getattr(hook, moment)(self)


@pytest.fixture
def trainer(tmp_path: Path) -> StubTrainer:
    return StubTrainer(tmp_path)


@pytest.fixture
def killed() -> type[KilledError]:
    return KilledError
