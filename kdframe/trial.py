"""The first batch, tried on a copy with all terms on: what a distiller written wrongly shows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdframe.answers import of_teacher
from kdframe.backbones import Backbone
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term

COMPARE = {  # torch's names of what takes two tensors' difference, element by element
    "sub", "__sub__", "rsub", "__rsub__", "subtract", "mse_loss", "l1_loss", "smooth_l1_loss",
    "huber_loss", "kl_div",
}  # fmt: skip
STUDENT, TEACHER = 1, 2


class Mistake(ValueError):
    """What a term does wrong; ``term`` is its name in LOSS."""

    def __init__(self, term: str, message: str) -> None:
        super().__init__(message)
        self.term = term


def tried(model: Distillation, batch: Batch, seed: int) -> list[Mistake]:
    """Asks a copy of student and terms, and the teachers themselves; nothing changes.

    Args:
        model: before its first step.
        batch: this process's part of one.
        seed: of the step's draws.

    Returns:
        What may be meant: a tensor that is trained without a gradient, features of other shapes.

    Raises:
        Mistake: a term whose result would be wrong without a word.
    """
    refuse_teachers_inside(model)
    one = copied(model)
    one.train()
    reached, doubts = set[Tensor](), list[Mistake]()
    with torch.random.fork_rng(devices=[]):  # an accelerator's generator: seeded every step
        torch.manual_seed(seed)
        needs = frozenset[str]().union(*(term.needs for term in one.terms))
        asked = one.teachers if any(term.needs_teacher for term in one.terms) else ()
        teachers = [one.ask(teacher, batch, of_teacher(needs)) for teacher in asked]
        student = one.ask(one.student, batch, needs)
        known = teachers if one.partner is None else [t.detached() for t in teachers]
        watch = (
            Comparisons(tensors_in(student), tensors_in(teachers))
            if one.partner is None
            else nullcontext()
        )
        for term in one.terms:
            before = stamp(model.teachers)
            with watch:
                try:
                    value = one.values([term], student, known, batch)[term.name]
                except Exception as error:
                    error.add_note(f"LOSS.{term.name}, on the first batch")
                    raise
            if stamp(model.teachers) != before:
                raise Mistake(term.name, "it changes the teacher: its weights, statistics or mode.")
            if isinstance(watch, Comparisons):
                doubts += [Mistake(term.name, message) for message in watch.found()]
            reached |= set(leaves(value))
            refuse_unknown(one, term, value)
            if not value.requires_grad:
                raise Mistake(term.name, "no gradient comes from it: what it takes is detached.")
        if one.partner is not None:
            turned = one.values(one.terms, teachers[0], [student.detached()], batch)
            reached |= {leaf for value in turned.values() for leaf in leaves(value)}
    return doubts + without_gradient(one, reached)


def copied(model: Distillation) -> Distillation:
    """The student and the terms anew; frozen teachers and their folded copies are shared."""
    shared = [teacher for teacher in model.teachers if teacher is not model.partner]
    shared += [asked for asked in model._asked if asked not in model.teachers]
    memo: dict[int, Any] = {id(part): part for part in shared}
    memo[id(model.cache)] = None
    return copy.deepcopy(model, memo)


def stamp(teachers: Sequence[Backbone]) -> list[Any]:
    """Changes whenever a tensor of theirs is written to, or a layer goes to training."""
    tensors = [t for teacher in teachers for t in (*teacher.parameters(), *teacher.buffers())]
    modes = [m.training for teacher in teachers for m in teacher.modules()]
    return [*((t._version, t.data_ptr(), t.requires_grad) for t in tensors), *modes]


def refuse_teachers_inside(model: Distillation) -> None:
    """A frozen teacher in a term would be put to training with it, and saved with it."""
    frozen = [teacher for teacher in model.teachers if teacher is not model.partner]
    for name, loss in model.learned.items():
        for at, module in loss.named_modules():
            if any(module is teacher or module is teacher.network for teacher in frozen):
                raise Mistake(
                    name,
                    f"its {at} is the teacher, which would be trained and saved with it: "
                    f"keep what you need of it, or (teacher,), which torch doesn't look into.",
                )
    for teacher in frozen:
        if any(module.training for module in teacher.modules()):
            raise Mistake(", ".join(model.learned), "one of them put the teacher to training.")


def refuse_unknown(model: Distillation, term: Term, value: Tensor) -> None:
    """A parameter that gets a gradient and that no module of the model knows is never trained."""
    known = set(model.parameters())
    lost = [p for p in leaves(value) if isinstance(p, nn.Parameter) and p not in known]
    if lost:
        shapes = ", ".join(str(tuple(p.shape)) for p in lost[:3])
        where = next(holding(term.loss, lost[0]), "")
        raise Mistake(
            term.name,
            f"{len(lost)} of its parameters ({shapes}) would never be trained: "
            f"{where or 'what holds them'} isn't registered. Use an attribute, nn.ModuleList or "
            "nn.ModuleDict of an nn.Module.",
        )


def holding(loss: Any, lost: nn.Parameter) -> Iterator[str]:
    """The attributes of a term, lists and dicts among them, in which a parameter is."""
    for name, value in vars(loss).items() if isinstance(loss, nn.Module) else ():
        inner = value.values() if isinstance(value, dict) else value
        for part in inner if isinstance(inner, Iterable) and name[0] != "_" else ():
            inside = part.parameters() if isinstance(part, nn.Module) else [part]
            if any(p is lost for p in inside):
                yield name


def without_gradient(model: Distillation, reached: set[Tensor]) -> list[Mistake]:
    """What is trained, is a term's or will be deployed, and gets no gradient, by its owner."""
    deployed = set(model.deployed.parameters())
    found = dict[str, list[str]]()
    for name, p in model.named_parameters():
        owner, _, own = name.removeprefix("learned.").partition(".")
        if p.requires_grad and p not in reached and (p in deployed or name.startswith("learned.")):
            found.setdefault(owner if name.startswith("learned.") else "", []).append(own)
    return [
        Mistake(
            owner,
            f"no gradient reaches {', '.join(names[:3])}"
            f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            f"{'' if owner else ' of the network'}: it would stay as it is.",
        )
        for owner, names in found.items()
    ]


def leaves(value: Tensor) -> Iterator[Tensor]:
    """The tensors whose gradient a backward pass would fill."""
    waiting, seen = [value.grad_fn], set[Any]()
    if value.grad_fn is None and value.requires_grad:
        yield value
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting.extend(inner for inner, _ in node.next_functions)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """All tensors in lists, tuples, dicts and answers."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for inner in tree:
            yield from tensors_in(inner)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))
    elif hasattr(tree, "plain"):
        yield from tensors_in([tree.plain, tree.before])


class Comparisons(TorchFunctionMode):
    """Follows what comes from the student and what from the teacher, and where they are compared.

    torch broadcasts a (B, 1) against a (B, C) without a word, and the difference is of no use.
    """

    def __init__(self, student: Iterable[Tensor], teacher: Iterable[Tensor]) -> None:
        super().__init__()
        self.origin = {id(t): (t, STUDENT) for t in student}  # held, or the id would be another's
        self.origin |= {id(t): (t, TEACHER) for t in teacher}
        self.doubts: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(tensors_in([args, kwargs or {}]))
        origins = [self.origin.get(id(t), (t, 0))[1] for t in given]
        if getattr(func, "__name__", "") in COMPARE and origins[:2] in ([1, 2], [2, 1]):
            self.compare(given[0], given[1], origins[0])
        answer = func(*args, **(kwargs or {}))
        mixed = 0
        for origin in origins:
            mixed |= origin
        if mixed:
            self.origin |= {id(t): (t, mixed) for t in tensors_in(answer)}
        return answer

    def compare(self, a: Tensor, b: Tensor, first: int) -> None:
        """Notes a difference of logits, embeddings or maps that repeats one of them.

        That of all pairs of rows, as (B, 1, C) and (1, B, C), is meant.
        """
        large, small = (a, b) if a.numel() >= b.numel() else (b, a)
        if a.shape == b.shape or large.dim() not in (2, 4) or small.numel() == 1:
            return
        repeated = all(s in (1, n) for s, n in zip(small.shape, large.shape, strict=False))
        if (a.dim() == b.dim() and repeated) or (a.dim() != b.dim() and a.numel() == b.numel()):
            student, teacher = (a, b) if first == STUDENT else (b, a)
            self.doubts.append(
                f"it compares {tuple(student.shape)} of the student with {tuple(teacher.shape)} "
                "of the teacher, one of them repeated."
            )

    def found(self) -> list[str]:
        """What was doubtful since the last call, each once."""
        doubts, self.doubts = list(dict.fromkeys(self.doubts)), []
        return doubts
