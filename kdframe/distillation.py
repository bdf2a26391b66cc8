"""Student, teacher and terms: the loss of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch


@dataclass(frozen=True)
class Term:
    """One summand of the loss and how its weight moves with the epoch.

    Outside ``start <= epoch < stop`` (``stop`` 0: to the end) the term is not computed; inside,
    its weight grows linearly from 0 over the first ``warmup`` epochs.
    """

    name: str
    loss: Callable[..., Tensor]  # (student Output, teacher Output, Batch) -> scalar
    weight: float = 1.0
    warmup: float = 0.0
    start: float = 0.0
    stop: float = 0.0
    needs_teacher: bool = True

    def is_on(self, epoch: float) -> bool:
        return self.start <= epoch and (self.stop == 0 or epoch < self.stop)

    def was_on(self, epoch: int) -> bool:
        """In all of that epoch or a part of it."""
        return self.start < epoch + 1 and (self.stop == 0 or epoch < self.stop)

    def weight_at(self, epoch: float) -> float:
        ramp = min(1.0, (epoch - self.start) / self.warmup) if self.warmup else 1.0
        return self.weight * ramp


class Distillation(nn.Module):
    """The weighted sum of the terms, for one batch; the teacher is called here and nowhere else.

    Parameters are the student's and those that terms learn.  The teacher is kept out of sight of
    ``parameters()``, ``train()`` and ``state_dict()``: frozen, in eval mode, never in a checkpoint.

    Args:
        student: trained.
        teacher: asked for its Output; None where no term needs one.
        terms: at least one; the names are unique.
        precision: the type of the networks' arithmetic; the terms compute in float32 at least.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone | None,
        terms: Sequence[Term],
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.student = student
        self._teacher = (teacher.eval().requires_grad_(False) if teacher else None,)
        self.terms = tuple(terms)
        self.learned = nn.ModuleDict(
            {t.name: t.loss for t in terms if isinstance(t.loss, nn.Module)}
        )
        self.precision = precision

    @property
    def teacher(self) -> Backbone | None:
        return self._teacher[0]

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the value of each term that is on: unweighted, detached."""
        on = [term for term in self.terms if term.is_on(batch.epoch)]
        device, half = batch.image.device.type, self.precision != torch.float32
        with torch.autocast(device, self.precision, enabled=half):
            student = self.student(batch.image)
            teacher = None
            if self.teacher is not None and any(term.needs_teacher for term in on):
                with torch.no_grad():
                    teacher = self.teacher(batch.image)
        with torch.autocast(device, enabled=False):
            student, teacher = raised(student), teacher and raised(teacher)
            values = {term.name: term.loss(student, teacher, batch) for term in on}
        loss = torch.stack([t.weight_at(batch.epoch) * values[t.name] for t in on]).sum()
        return loss, {name: value.detach() for name, value in values.items()}


def raised(output: Output) -> Output:
    """Half precision becomes float32; float32 and float64 stay."""

    def up(x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

    return Output(up(output.logits), up(output.embedding), [up(f) for f in output.features])
