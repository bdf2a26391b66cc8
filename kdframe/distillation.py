"""Student, teacher and terms: the loss of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdframe import parallel
from kdframe.answers import Answer, batch_for, each, of_teacher, raised
from kdframe.backbones import Backbone, Output, fold_if_same
from kdframe.datasets import Batch
from kdframe.teacher_cache import TeacherCache


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
    needs: frozenset[str] = frozenset()  # words of kdframe.registry.NEEDS
    reads_maps: bool = True  # a teacher's feature maps; if not, they are gone before the student's

    def is_on(self, epoch: float) -> bool:
        return self.start <= epoch and (self.stop == 0 or epoch < self.stop)

    def was_on(self, epoch: int) -> bool:
        """In all of that epoch or a part of it."""
        return self.start < epoch + 1 and (self.stop == 0 or epoch < self.stop)

    def weight_at(self, epoch: float) -> float:
        ramp = min(1.0, (epoch - self.start) / self.warmup) if self.warmup else 1.0
        return self.weight * ramp


class Distillation(nn.Module):
    """The weighted sum of the terms, for one batch; teachers are called here and nowhere else.

    Parameters are the student's and those that terms learn.  A teacher is kept out of sight of
    ``parameters()``, ``train()`` and ``state_dict()``: frozen, in eval mode, never in a checkpoint.

    Args:
        student: trained.
        teacher: asked for its Output; None where no term needs one.
        terms: at least one; the names are unique.
        precision: the type of the networks' arithmetic; the terms compute in float32 at least.
        others: more teachers, for terms that need "teachers".
        mutual: the teacher learns too (``partner``): each network's loss is the sum of the terms
            with itself as the student and the other, detached, as its teacher.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone | None,
        terms: Sequence[Term],
        precision: torch.dtype = torch.float32,
        others: Sequence[Backbone] = (),
        mutual: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.partner = teacher if mutual else None
        self._teachers = tuple(t for t in (teacher, *others) if t is not None)
        for frozen in self._teachers[1 if mutual else 0 :]:
            frozen.eval().requires_grad_(False)
        self.terms = tuple(terms)
        self.tap()
        self.unfold()
        self.learned = nn.ModuleDict(
            {t.name: t.loss for t in terms if isinstance(t.loss, nn.Module)}
        )
        self.precision = precision
        deploying = [t.loss.deployed for t in terms if hasattr(t.loss, "deployed")]
        self._deployed = (deploying[0](student) if deploying else student,)
        self.cache: TeacherCache | None = None  # of the first teacher's answers

    @property
    def teacher(self) -> Backbone | None:
        return self._teachers[0] if self._teachers else None

    @property
    def teachers(self) -> tuple[Backbone, ...]:
        """All of them, the first first."""
        return self._teachers

    @property
    def is_folded(self) -> bool:
        """Whether the first teacher is asked through its folded copy."""
        return bool(self._asked) and self._asked[0] is not self.teacher

    def tap(self) -> None:
        """Lets networks keep the maps before their activations, where a term needs them."""
        of_student = any("preactivations" in term.needs for term in self.terms)
        of_them = any("preactivations" in of_teacher(term.needs) for term in self.terms)
        for network in (self.student,) * of_student + self._teachers * of_them:
            _ = network.taps  # a network may have none to hand out

    def fold(self, image: Tensor) -> Iterator[str]:
        """From now on asks folded copies of the frozen teachers, where these answer the same.

        Their weights must stand by then.  Says of each what was done; the same on every process.
        """
        for i, teacher in enumerate(self._teachers):
            if teacher is self.partner:
                continue
            self._asked[i], count, found = fold_if_same(teacher, image, self.precision)
            differs = parallel.largest(int(count > 0 and self._asked[i] is teacher))
            if differs:
                self._asked[i] = teacher
            elif count and teacher._compiled_call_impl is not None:
                self._asked[i].compile(dynamic=False)  # as its network was
            name = f"teacher/{i + 1}" if i else "teacher"
            done = "stays unfolded" if differs else "folded"
            distance = f", largest difference {found:.0e} on the first batch in fp32" * (count > 0)
            yield f"{name}  {done}: {count} convolutions{distance}"

    def unfold(self) -> None:
        """Asks the teachers themselves: a folded copy is made for one precision."""
        self._asked = list(self._teachers)  # or their folded copies

    @property
    def deployed(self) -> Backbone:
        """What is evaluated, counted and exported: the student, or what a term makes of it."""
        return self._deployed[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values that ``forward`` may return."""
        own = tuple(term.name for term in self.terms)
        return own + tuple(f"teacher/{name}" for name in own if self.partner is not None)

    def alike(self) -> list[str]:
        """The names of buffers that are the same on every process: terms of the global batch's."""
        return [
            f"learned.{term.name}.{name}"
            for term in self.terms
            if "global_batch" in term.needs and term.name in self.learned
            for name, _ in self.learned[term.name].named_buffers()
        ]

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the value of each term that is on: unweighted, detached."""
        on = [term for term in self.terms if term.is_on(batch.epoch)]
        needs = frozenset[str]().union(*(term.needs for term in on))
        teachers = []  # first: what a student keeps for its gradient would be in memory too
        if self.partner is not None or any(term.needs_teacher for term in on):
            asked = self._asked if "teachers" in needs else self._asked[:1]
            maps = any(term.reads_maps for term in on)
            teachers = [self.recall(teacher, batch, of_teacher(needs), maps) for teacher in asked]
        student = self.ask(self.student, batch, needs)
        known = teachers if self.partner is None else [t.detached() for t in teachers]
        values = self.values(on, student, known, batch)
        loss = torch.stack([t.weight_at(batch.epoch) * values[t.name] for t in on]).sum()
        if self.partner is not None:
            turned = self.values(on, teachers[0], [student.detached()], batch)
            loss = loss + sum(t.weight_at(batch.epoch) * turned[t.name] for t in on)
            values |= {f"teacher/{name}": value for name, value in turned.items()}
        return loss, {name: value.detach() for name, value in values.items()}

    def recall(
        self, teacher: Backbone, batch: Batch, needs: frozenset[str], maps: bool = True
    ) -> Answer:
        """The answer that is kept, or a new one; without ``maps`` they are made on demand."""
        if self.cache is None:
            answer = self.ask(teacher, batch, needs)
            if maps or teacher is self.partner:
                return answer
            return answer.without_maps(functools.cache(lambda: self.ask(teacher, batch, needs)))
        output = self.cache.recall(batch)
        if output is None:
            output = self.cache.keep(batch, self.ask(teacher, batch, needs).plain[0])
        return Answer([output], [output])

    def ask(self, network: Backbone, batch: Batch, needs: frozenset[str]) -> Answer:
        """One forward pass, or one a view."""
        learns = network is self.student or network is self.partner
        images = [batch.image, batch.view] if "views" in needs else [batch.image]
        device, half = batch.image.device.type, self.precision != torch.float32
        answer = Answer([], [])
        with (
            torch.autocast(device, self.precision, enabled=half),
            nullcontext() if learns else torch.no_grad(),
        ):
            for image in images:
                outputs = [network(image)]
                before = network.before_activation(outputs[0])  # the taps keep none of it
                if "preactivations" in needs:
                    outputs.append(before)
                if half:
                    outputs = [each(raised, output) for output in outputs]
                answer.plain.append(outputs[0])
                answer.before.append(outputs[-1])
        return answer

    def teach(self, batch: Batch, term: Term) -> Output | None:
        """The first teacher's Output alone, as that term is handed it; None if there is none."""
        if not self._asked:
            return None
        needs = of_teacher(term.needs)
        return self.ask(self._asked[0], batch, needs).output(needs)

    def values(
        self, on: Sequence[Term], student: Answer, teachers: Sequence[Answer], batch: Batch
    ) -> dict[str, Tensor]:
        """Each term's value, without autocast; ``teachers`` get no gradient."""
        values = {}
        with torch.autocast(batch.image.device.type, enabled=False):
            for term in on:
                known = tuple(teacher.output(of_teacher(term.needs)) for teacher in teachers)
                teacher = known if "teachers" in term.needs else next(iter(known), None)
                given = batch_for(batch, term.needs)
                values[term.name] = term.loss(student.output(term.needs), teacher, given)
        return values
