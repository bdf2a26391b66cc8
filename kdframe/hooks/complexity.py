"""What student and teacher cost, written beside a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kdframe.hooks.base import Hook
from kdframe.registry import HOOKS
from kdframe.reports.complexity import as_dict, as_markdown, complexity
from kdframe.writing import write_text

if TYPE_CHECKING:
    from kdframe.trainer import Trainer


@HOOKS.register("complexity")
class WriteComplexity(Hook):
    """Writes ``complexity.json`` and ``complexity.md`` before the first step."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir

    def before_train(self, trainer: Trainer) -> None:
        counts = {"student": complexity(trainer.model.deployed)}
        if trainer.model.teacher is not None:
            counts["teacher"] = complexity(trainer.model.teacher)
        text = json.dumps(as_dict(counts), indent=2) + "\n"
        write_text(self.output_dir / "complexity.json", text)
        write_text(self.output_dir / "complexity.md", as_markdown(counts))
