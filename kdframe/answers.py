"""What networks answer to a batch, as terms with different needs are handed it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from kdframe import parallel
from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.teacher_cache import NotKept


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

    def without_maps(self, again: Callable[[], Answer]) -> Answer:
        """The same without feature maps; the first look at one asks ``again`` for all of them."""

        def of(view: int, output: Output) -> Output:
            maps = OnDemand(len(output.features), lambda s: again().plain[view].features[s])
            return output._replace(features=maps)

        plain = [of(view, output) for view, output in enumerate(self.plain)]
        return Answer(plain, plain)

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
    maps: list[Tensor] = output.features
    if not isinstance(maps, NotKept):
        maps = OnDemand(len(maps), lambda stage: change(output.features[stage]))
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
