"""What a setting takes, and the sentence that answers a wrong one."""

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import GenericAlias, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from kdframe.nearest import likeness, nearest, one_slip

INTS = range(-(2**63), 2**63)  # what a tensor holds
LONGEST = 400  # letters of a word in a message


class ConfigError(ValueError):
    """A wrong config in one line: the file or "command line", the key, the value, what it takes.

    ``line`` is the one of the file, from 1; it ends the sentence.
    """

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(one_line(text) + (f" (line {line})" if line else ""))


class Key(NamedTuple):
    """One setting."""

    default: Any
    kind: Any  # bool, int, float, str, Literal, tuple[...], or a union of these
    bound: str = ""
    holds: Callable[[Any], bool] = lambda value: True


WORDS = {
    bool: "true or false",
    int: "an int",
    float: "a finite number",
    str: "a string",
    tuple: "a list",
}


def take(source: str, name: str, value: Any, key: Key, line: int = 0) -> Any:
    """``value`` as ``key`` holds it: a list as a tuple, an int or "1e-3" as a float.

    ``source`` and ``line`` are where it stands.

    Raises:
        ConfigError: it isn't one, or out of bounds.
    """
    if key.kind is float and isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    with suppress(TypeError, ValueError, OverflowError):
        if key.holds(fitted := fit(value, key.kind)):
            return fitted
    bound = key.bound if isinstance(value, int | float | list) else ""
    choices = get_args(key.kind) if get_origin(key.kind) is Literal else ()
    near = nearest(str(value), [str(c) for c in choices])
    large = " It has more than 64 bits." if type(value) is int and value not in INTS else ""
    raise ConfigError(
        f"{source}: {name} takes {words(key.kind)}{bound}, not {shown(value)}.{large}{hint(near)}",
        line,
    )


def fit(value: Any, kind: Any) -> Any:
    """``value`` as a ``kind``.

    Raises:
        TypeError, ValueError, OverflowError: it can't be one; a bool is no number.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for arm in args:
            with suppress(TypeError, ValueError, OverflowError):
                return fit(value, arm)
    elif tuple in (kind, origin) and isinstance(value, list | tuple):
        arms = args or [tuple if isinstance(v, list | tuple) else type(v) for v in value]
        if args[1:] == (...,):
            arms = args[:1] * len(value)
        return tuple(fit(v, arm) for v, arm in zip(value, arms, strict=True))
    elif kind is float and type(value) in (int, float, str) and math.isfinite(float(value)):
        return float(value)
    elif kind in (bool, int, str) or origin is Literal:
        allowed = [(type(arg), arg) for arg in args] or [(kind, value)]
        if (type(value), value) in allowed:  # the type as well: True == 1
            if kind is int and value not in INTS:
                raise OverflowError
            return value
    raise TypeError


def words(kind: Any) -> str:
    """What a key of this kind takes, as it stands in a sentence."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (Union, UnionType):
        return " or ".join(map(words, args))
    if args[1:] == (...,):
        return f"a list (each element {words(args[0])})"
    return f"[{', '.join(map(words, args))}]" if args else WORDS[kind]


def kind_of(annotation: Any, default: Any) -> Any:
    """What a part's option takes: as it is annotated, else as its default is."""
    if understood(annotation):
        return annotation
    kinds = {type(element) for element in default} if isinstance(default, tuple) else set()
    if len(kinds) == 1 and kinds <= WORDS.keys():
        return GenericAlias(tuple, (kinds.pop(), ...))
    return type(default)


def understood(annotation: Any) -> bool:
    """Whether ``fit`` can check by it."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (tuple, Union, UnionType):
        return all(arg is ... or understood(arg) for arg in args)
    return origin is Literal or annotation in (bool, int, float, str, tuple)


def shown(value: Any) -> str:
    """A value as its YAML reads, shortened."""
    plain = {"None": "null", "True": "true", "False": "false"}
    text = repr(dict(value) if isinstance(value, dict) else value)
    text = plain.get(text, text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown(source: str, name: str, known: Iterable[str], line: int = 0) -> ConfigError:
    """The answer to a key that isn't there, with the likeliest one of those that are.

    Likeness is of the last word, in any branch (LR is SOLVER.LR), and more in its own, most of all
    to a key that a slip of one letter makes of it.
    """
    branch, _, word = name.rpartition(".")

    def alike(other: str) -> float:
        of, _, its = other.rpartition(".")
        home = 0.2 + 0.5 * one_slip(word.upper(), its.upper()) if of == branch else 0.0
        return likeness(word.upper(), its.upper()) + home

    best = max((other for other in known if other != name), key=alike, default=name)
    near = [best] if best != name and alike(best) > 0.75 else []
    return ConfigError(f"{source}: there is no {name}.{hint(near)}", line)


def hint(near: list[str]) -> str:
    """The last sentence of a message, where something is near."""
    *others, last = near or [""]
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def one_line(text: str) -> str:
    """What a terminal shows as one line: what can't be printed is escaped, a long word cut."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    half = LONGEST // 2
    return re.sub(rf"\S{{{LONGEST},}}", lambda m: f"{m[0][:half]}...{m[0][-half:]}", text)
