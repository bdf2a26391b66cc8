"""Student, teacher and terms: the loss of a batch."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdframe import parallel
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
    needs: frozenset[str] = frozenset()  # words of kdframe.registry.NEEDS

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
        self.learned = nn.ModuleDict(
            {t.name: t.loss for t in terms if isinstance(t.loss, nn.Module)}
        )
        self.precision = precision
        deploying = [t.loss.deployed for t in terms if hasattr(t.loss, "deployed")]
        self._deployed = (deploying[0](student) if deploying else student,)
        self.keeps_maps = False  # a frozen teacher's, until a term has looked at some

    @property
    def teacher(self) -> Backbone | None:
        return self._teachers[0] if self._teachers else None

    @property
    def teachers(self) -> tuple[Backbone, ...]:
        """All of them, the first first."""
        return self._teachers

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
            asked = self.teachers if "teachers" in needs else self.teachers[:1]
            teachers = [self.ask(teacher, batch, of_teacher(needs)) for teacher in asked]
        student = self.ask(self.student, batch, needs)
        known = teachers if self.partner is None else [t.detached() for t in teachers]
        values = self.values(on, student, known, batch)
        loss = torch.stack([t.weight_at(batch.epoch) * values[t.name] for t in on]).sum()
        if self.partner is not None:
            turned = self.values(on, teachers[0], [student.detached()], batch)
            loss = loss + sum(t.weight_at(batch.epoch) * turned[t.name] for t in on)
            values |= {f"teacher/{name}": value for name, value in turned.items()}
        return loss, {name: value.detach() for name, value in values.items()}

    def ask(self, network: Backbone, batch: Batch, needs: frozenset[str]) -> Answer:
        """One forward pass, or one a view."""
        learns = network is self.student or network is self.partner
        images = [batch.image]
        if "views" in needs and batch.view is not None:
            images.append(batch.view)
        answer = Answer([], [])
        for image in images:
            output = self.output(network, image, learns)
            outputs = [output]
            if "preactivations" in needs:
                outputs.append(network.before_activation(output))
            elif not (learns or self.keeps_maps):
                outputs = [self.without_maps(network, image, output)]
            if self.precision != torch.float32:
                outputs = [each(raised, output) for output in outputs]
            answer.plain.append(outputs[0])
            answer.before.append(outputs[-1])
        return answer

    def output(self, network: Backbone, image: Tensor, learns: bool) -> Output:
        """A forward pass in the run's precision."""
        half = self.precision != torch.float32
        with (
            torch.autocast(image.device.type, self.precision, enabled=half),
            nullcontext() if learns else torch.no_grad(),
        ):
            output: Output = network(image)
            return output

    def without_maps(self, network: Backbone, image: Tensor, output: Output) -> Output:
        """A frozen teacher's answer; its maps are freed, and made again if a term looks at them.

        That costs a forward pass once: from then on they are kept.
        """

        @functools.cache
        def again() -> list[Tensor]:
            self.keeps_maps = True
            return self.output(network, image, learns=False).features

        maps = OnDemand(len(output.features), lambda stage: again()[stage])
        return output._replace(features=maps)

    def teach(self, batch: Batch, term: Term) -> Output:
        """The first teacher's Output alone, as that term is handed it."""
        needs = of_teacher(term.needs)
        return self.ask(self.teachers[0], batch, needs).output(needs)

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


@dataclass(frozen=True)
class Answer:
    """A network's Outputs for a batch, one a view: as they are, and before the activations."""

    plain: list[Output]
    before: list[Output]
    made: dict[frozenset[str], Output] = field(default_factory=dict)

    def output(self, needs: frozenset[str]) -> Output:
        """What a term with these needs is handed; made once."""
        if needs not in self.made:
            outputs = self.before if "preactivations" in needs else self.plain
            if (
                "global_batch" in needs and parallel.world() > 1
            ):  # first: all processes' images, then all of their views
                outputs = [each(parallel.gathered, output) for output in outputs]
            self.made[needs] = stacked(outputs) if "views" in needs else outputs[0]
        return self.made[needs]

    def detached(self) -> Answer:
        """The same without its graph."""
        plain, before = (
            [each(Tensor.detach, output) for output in outputs]
            for outputs in (self.plain, self.before)
        )
        return Answer(plain, before)


def of_teacher(needs: frozenset[str]) -> frozenset[str]:
    """What these needs ask of a teacher."""
    return needs | {"preactivations"} if "teacher_preactivations" in needs else needs


class OnDemand(list[Tensor]):
    """Feature maps that are made when they are looked at, once: few terms look at many."""

    def __init__(self, count: int, make: Callable[[int], Tensor]) -> None:
        super().__init__(cast(Iterable[Tensor], range(count)))
        self.make = functools.cache(make)

    def __getitem__(self, i: Any) -> Any:
        stage: Any = super().__getitem__(i)
        return [self.make(s) for s in stage] if isinstance(i, slice) else self.make(stage)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))


def each(change: Callable[[Tensor], Tensor], output: Output) -> Output:
    """An Output of changed tensors."""
    maps = OnDemand(len(output.features), lambda stage: change(output.features[stage]))
    return Output(change(output.logits), change(output.embedding), maps)


def raised(x: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def stacked(outputs: Sequence[Output]) -> Output:
    """The rows of one Output below those of the other."""

    def both(stage: int) -> Tensor:
        return torch.cat([output.features[stage] for output in outputs])

    logits = torch.cat([output.logits for output in outputs])
    embedding = torch.cat([output.embedding for output in outputs])
    return Output(logits, embedding, OnDemand(len(outputs[0].features), both))


def batch_for(batch: Batch, needs: frozenset[str]) -> Batch:
    """The rows that fit the Outputs for these needs; images stay those of this process."""
    image, target, item, epoch, view = batch
    if "global_batch" in needs:
        target, item = parallel.gathered(target), parallel.gathered(item)
    if "views" in needs and view is not None:
        image, target, item = torch.cat((image, view)), target.repeat(2), item.repeat(2)
    return Batch(image, target, item, epoch, view)


def try_out(
    loss: Callable[..., Tensor],
    needs: frozenset[str],
    student: Backbone,
    teachers: Sequence[Backbone],
    images: int,
) -> None:
    """Calls a copy of a term on probed images: shapes and options that can't be, raise."""
    rows = 2 * images if "views" in needs else images

    def probed(backbone: Backbone, needs: frozenset[str]) -> Output:
        if "preactivations" in needs:
            _ = backbone.taps  # a network may have none to hand out
        return each(lambda x: x.repeat(rows, *[1] * (x.dim() - 1)), backbone.probe())

    numbers = torch.arange(rows) % images
    batch = Batch(
        torch.zeros(rows, *student.input_size), numbers % student.num_classes, numbers, 0.0
    )
    outputs = tuple(probed(teacher, of_teacher(needs)) for teacher in teachers)
    handed = outputs if "teachers" in needs else next(iter(outputs), None)
    with torch.no_grad():
        value = copy.deepcopy(loss)(probed(student, needs), handed, batch)
    if not isinstance(value, Tensor) or value.shape != ():
        raise ValueError(f"a term returns a scalar tensor, not {getattr(value, 'shape', value)}.")
