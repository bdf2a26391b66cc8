"""Names for parts: four registries, and the rule that a part's signature is its schema.

What kdframe hands a part is positional; what a config may set is keyword-only, with a plain
default.  A registry imports its folder of ``kdframe`` at the first look-up, and an installed
package's entry point (group ``kdframe.<kind>``) only when its name is asked for.
"""

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from kdframe.nearest import nearest
from kdframe.values import hint

Part = Callable[..., Any]
P = TypeVar("P", bound=Part)

TYPING_ONLY = ("Output", "Backbone", "Batch", "Trainer", "Tensor", "Path")  # may be imported so
PLAIN = (bool, int, float, str, tuple)
NEEDS = {  # what a term may ask for beyond (student Output, teacher Output, Batch)
    "preactivations": "the features handed over are the maps before each stage's last activation",
    "teacher_preactivations": "so are the teacher's, while the student's are as they are",
    "views": "Outputs and Batch of 2B rows: the images, and then a stronger view of each",
    "labels": "set_labels(labels) is called once: the class of every training item, -1 for none",
    "teacher_classifier": "it takes teacher.classifier, the layer from embedding to logits",
    "teachers": "the teacher handed over is a tuple, an Output of each teacher",
    "global_batch": "Outputs and Batch are those of all processes",
}


class UnknownPart(LookupError):
    """No part of that name."""


class Registry:
    """Parts of one kind by name: built in, of a family, registered by hand, or an entry point.

    Args:
        kind: plural, as it stands in messages, in ``kdframe.<kind>`` and in the entry point group.
        arguments: the names of what kdframe hands a function of this kind, in order.
        of_class: the same for a class, where it differs.
    """

    def __init__(
        self, kind: str, arguments: tuple[str, ...], of_class: tuple[str, ...] | None = None
    ) -> None:
        self.kind = kind
        self.arguments = {False: arguments, True: of_class or arguments}
        self._parts: dict[str, Part] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        self._families: list[tuple[Callable[[], Iterable[str]], Callable[[str], Part]]] = []
        self._filled = False

    def register(self, name: str, *, needs: tuple[str, ...] = ()) -> Callable[[P], P]:
        """A decorator that gives a part its name.

        Raises:
            ValueError: the name is taken; both places are named.
            TypeError: the signature can't be read as a schema, or ``needs`` has an unknown word.
        """

        def add(part: P) -> P:
            if name in self._parts:
                raise ValueError(
                    f"{self.kind} has {name!r} twice: {address(self._parts[name])} and "
                    f"{address(part)}"
                )
            self._check(part)
            self._check_needs(part, needs)
            self._parts[name], self._needs[name] = part, needs
            return part

        return add

    def family(
        self, names: Callable[[], Iterable[str]], make: Callable[[str], Part]
    ) -> Callable[[str], Part]:
        """Adds all of a library's parts under their own names, made when they are asked for."""
        self._families.append((names, make))
        return make

    def __getitem__(self, name: str) -> Part:
        """The part of that name.

        Raises:
            UnknownPart: with the nearest name.
            ValueError: an installed package claims a name that is taken.
        """
        self._fill()
        entry = self._entries.get(name)
        if name not in self._parts and entry is not None:
            part = entry.load()
            if name not in self._parts:  # the package may have registered it by the decorator
                self.register(name)(part)
        if name in self._parts:
            part = self._parts[name]
            if entry is not None and entry.module != part.__module__:
                raise ValueError(
                    f"{self.kind} has {name!r} twice: {address(part)} and the entry point "
                    f"{entry.value} of an installed package"
                )
            return part
        for names, make in self._families:
            if name in names():
                return make(name)
        near = nearest(name, self.names(), cutoff=0.5)
        raise UnknownPart(f"{self.kind} has no {name!r}.{hint(near)}")

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        """Names of the built-in, the registered and the installed parts, without the families."""
        self._fill()
        return iter(sorted({*self._parts, *self._entries}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def names(self) -> list[str]:
        """Every name that can be looked up, the families' too."""
        own = list(self)
        return [*own, *(n for names, _ in self._families for n in names() if n not in own)]

    def homes(self) -> dict[str, str]:
        """The module of every part that is registered so far; imports nothing."""
        return {name: part.__module__ for name, part in self._parts.items()}

    def options(self, name: str) -> dict[str, Any]:
        """A part's options and their defaults."""
        part = self[name]
        fixed = getattr(part, "keywords", {})
        return {
            p.name: p.default
            for p in inspect.signature(part).parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name not in fixed
        }

    def hints(self, name: str) -> dict[str, Any]:
        """A part's annotations by argument, those of an option and of what it is handed."""
        part = self[name]
        part = getattr(part, "func", part)
        annotated = part.__init__ if inspect.isclass(part) else part
        return typing.get_type_hints(annotated, localns=dict.fromkeys(TYPING_ONLY, object))

    def does_without(self, name: str, argument: str) -> bool:
        """Whether a part's annotation of ``argument`` admits None."""
        return type(None) in typing.get_args(self.hints(name).get(argument))

    def needs(self, name: str) -> tuple[str, ...]:
        """What a part asks for beyond its contract, as said where it is registered."""
        self[name]
        return self._needs.get(name, ())

    def _check(self, part: Part) -> None:
        given = self.arguments[inspect.isclass(part)]
        positional = 0
        for p in inspect.signature(part).parameters.values():
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise TypeError(f"{address(part)}: *{p.name} hides its options: name them.")
            if p.kind is not p.KEYWORD_ONLY:
                positional += 1
            elif not isinstance(p.default, PLAIN):
                raise TypeError(
                    f"{address(part)}: option {p.name} needs a plain default "
                    f"(bool, int, float, str or tuple), not {p.default!r}."
                )
        if positional != len(given):
            raise TypeError(
                f"{address(part)}: a part of {self.kind} takes ({', '.join(given)}, *, options), "
                f"and has {positional} positional arguments; options stand behind the *."
            )

    def _check_needs(self, part: Part, needs: tuple[str, ...]) -> None:
        if isinstance(needs, str):
            raise TypeError(f"{address(part)}: needs takes a tuple of words, not {needs!r}.")
        if unknown := [word for word in needs if word not in NEEDS]:
            raise TypeError(f"{address(part)}: needs takes {', '.join(NEEDS)}, not {unknown[0]}.")
        if "labels" in needs and not hasattr(part, "set_labels"):
            raise TypeError(f"{address(part)}: it needs labels, and has no set_labels.")

    def _fill(self) -> None:
        if not self._filled:
            self._filled = True
            importlib.import_module(f"kdframe.{self.kind}")

    @cached_property  # one look at every installed package takes longer than a thousand look-ups
    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=f"kdframe.{self.kind}")}


def address(part: Part) -> str:
    """Where a part is written: module, name, file and line."""
    part = getattr(part, "func", part)
    try:
        place = f" ({inspect.getsourcefile(part)}:{inspect.getsourcelines(part)[1]})"
    except (OSError, TypeError):
        place = ""
    return f"{part.__module__}.{getattr(part, '__qualname__', repr(part))}{place}"


BACKBONES = Registry("backbones", ("num_classes",))
DATASETS = Registry("datasets", ("split",))
DISTILLERS = Registry("distillers", ("student", "teacher", "batch"), ("student", "teacher"))
HOOKS = Registry("hooks", ("output_dir",))


def deploying(loss: Mapping[str, Any]) -> list[str]:
    """The entries of LOSS whose term makes another network of the student, and deploys that."""
    on = (entry for entry, given in loss.items() if given is not None)
    return [key for key in on if hasattr(DISTILLERS[key.partition("/")[0]], "deployed")]
