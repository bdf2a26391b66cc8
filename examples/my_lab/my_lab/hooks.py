"""The size of a student's weights."""

from pathlib import Path

import torch

from kdframe.hooks import Hook
from kdframe.trainer import Trainer


class MyWeightNorm(Hook):
    """Writes ``weight_norm.txt``: a line an epoch, its number and the weights' Euclidean norm."""

    def __init__(self, output_dir: Path, *, digits: int = 4) -> None:
        self.path = output_dir / "weight_norm.txt"
        self.digits = digits

    def after_epoch(self, trainer: Trainer) -> None:
        weights = [p.detach().flatten() for p in trainer.model.student.parameters()]
        line = f"{trainer.epoch} {torch.cat(weights).norm().item():.{self.digits}f}"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        lines[trainer.epoch - 1 :] = [line]  # a resumed run writes its first epochs again
        self.path.write_text("\n".join(lines) + "\n")
