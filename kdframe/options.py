"""Pass 2 of a config: the parts that it names are imported, and their options join the tree."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kdframe.modules import import_modules
from kdframe.nearest import nearest
from kdframe.registry import (
    BACKBONES,
    DATASETS,
    DISTILLERS,
    HOOKS,
    Registry,
    UnknownPart,
    deploying,
)
from kdframe.schema import BRANCHES, ENTRIES, branch_of, known_keys, teachers_of
from kdframe.values import ConfigError, Key, hint, kind_of, shown, take, unknown

if TYPE_CHECKING:
    from kdframe.config import Config, Draft


TIMM = "timm.optim"  # imported in pass 2
SAME_IMAGES = ("ROOT", "WORKERS", "DOWNLOAD", "URL", "STREAM")  # keys of DATASET
ROUNDING = ("CHANNELS_LAST", "COMPILE")  # keys of SOLVER that change no more than that


class Place(NamedTuple):
    """Where a part's options join: STUDENT, LOSS.kd."""

    at: str
    registry: Registry
    part: str


def grow(draft: Draft, recipes: Mapping[str, Config]) -> tuple[dict[str, Any], dict[str, str]]:
    """The tree with the options of every part that it names.

    Args:
        draft: what pass 1 made of the config.
        recipes: the configs that it names, by key; a teacher's options come from its own.

    Returns:
        The tree; and the settings without effect (of a part that was replaced; a module that
        registers nothing), each with why.

    Raises:
        ConfigError: a module, a part or an option that isn't there, or a value it doesn't take.
    """
    idle_modules = import_modules(draft)
    refuse_unknown_optimizer(draft)
    tree = {key: value for key, value in draft.tree.items() if key not in ENTRIES}
    tree |= {branch: dict(draft.tree[branch]) for branch in ENTRIES}
    keys = {place.at: keys_of(draft, place) for place in places(draft.tree)}
    trained = {at: recipes[f"{at}.CONFIG"] for at in keys if f"{at}.CONFIG" in recipes}
    for at, recipe in trained.items():
        keys[at] = {
            name: key._replace(default=recipe.tree["STUDENT"][name])
            for name, key in keys[at].items()
        }
    known, dropped = known_keys(keys), dict(idle_modules)
    for at, joined in keys.items():
        branch, _, entry = at.partition(".")
        inside, last = (tree[branch], entry) if entry else (tree, branch)
        inside[last], gone = filled(draft, at, inside[last], joined, known)
        dropped.update(gone)
    for at, recipe in trained.items():
        refuse_other_teacher(draft, at, tree[at], keys[at], recipe)
    return tree, dropped


def refuse_unknown_optimizer(draft: Draft) -> None:
    """OPTIMIZER is one of timm's, which the parts import anyhow."""
    name, known = draft.tree.SOLVER.OPTIMIZER, importlib.import_module(TIMM).list_optimizers()
    if name not in known:
        why = f"timm has no {name!r}.{hint(nearest(name, known))}"
        raise draft.error("SOLVER.OPTIMIZER", why)


def places(tree: Any) -> Iterator[Place]:
    """Every place that a part is named for."""
    yield Place("STUDENT", BACKBONES, tree["STUDENT"]["NAME"])
    for teacher in teachers_of(tree):
        if tree[teacher]["NAME"]:
            yield Place(teacher, BACKBONES, tree[teacher]["NAME"])
    yield Place("DATASET", DATASETS, tree["DATASET"]["NAME"])
    for branch, registry in zip(ENTRIES, (DISTILLERS, HOOKS), strict=True):
        for entry, given in tree[branch].items():
            if given is not None:
                yield Place(f"{branch}.{entry}", registry, entry.partition("/")[0])


def keys_of(draft: Draft, place: Place) -> dict[str, Key]:
    """A part's options as keys."""
    at, registry, part = place
    branch, _, entry = at.partition(".")
    try:
        options, hints = registry.options(part), registry.hints(part)
    except (UnknownPart, ImportError, ValueError) as error:
        key = at if entry else f"{at}.NAME"
        where = f"{draft.source(key)}: {branch if entry else key}"
        raise ConfigError(f"{where}: {error}", draft.line(key)) from error
    alone = registry is DISTILLERS and not draft.tree["TEACHER"]["NAME"]
    if alone and not registry.does_without(part, "teacher"):
        raise draft.error(at, "it needs a teacher, and TEACHER names none.")
    keys = {}
    for option, default in options.items():
        name = option.upper()
        held = Key(default, kind_of(hints.get(option), default))
        if name in BRANCHES[branch_of(at)]:
            raise draft.error(at, f"{part} has an option that is kdframe's own key: {name}.")
        keys[name] = held._replace(default=take(draft.source(at), f"{at}.{name}", default, held))
    return keys


def filled(
    draft: Draft, at: str, given: Mapping[str, Any], keys: Mapping[str, Key], known: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A branch with every option of its part; and what was set for a part named there before."""
    own = {key: given[key] for key in BRANCHES[branch_of(at)]}
    branch, dropped = {**own, **{name: key.default for name, key in keys.items()}}, {}
    sources = [layer.source for layer in draft.layers]
    for key, value in given.items():
        name, source = f"{at}.{key}", draft.source(f"{at}.{key}")
        if key in keys:
            branch[key] = take(source, name, value, keys[key], draft.line(name))
        elif key not in own:
            if sources.index(source) >= renamed(draft, at):
                raise unknown(source, name, known, draft.line(name))
            dropped[name] = f"it has no effect: {at}.NAME is now {own['NAME']}."
    return branch, dropped


def renamed(draft: Draft, at: str) -> int:
    """The number of the layer that put another NAME in the place of one that was set before."""
    name, number = "", 0
    for i, layer in enumerate(draft.layers):
        given = layer.data.get(at, {}).get("NAME", name)
        if name not in ("", given):
            number = i
        name = given
    return number


def idle_teachers(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Teachers that no term asks, or asks for their answer alone, and why they are idle."""
    terms = [name.partition("/")[0] for name, given in tree["LOSS"].items() if given is not None]
    if not any("teachers" in DISTILLERS.needs(term) for term in terms):
        for at in teachers_of(tree)[1:]:
            yield at, "it has no effect on the student: no term of LOSS takes several teachers."
    asks = any(not DISTILLERS.does_without(term, "teacher") for term in terms)
    if tree["TEACHER"]["TRAIN"] and not asks:
        yield "TEACHER.TRAIN", "the two have no effect on each other: no term compares them."
    elif tree["TEACHER"]["NAME"] and not asks:
        yield "TEACHER", "it has no effect on the student: no term of LOSS asks it."


def idle_terms(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Terms that do less here than their name says, and why."""
    terms = {
        entry: entry.partition("/")[0] for entry, given in tree["LOSS"].items() if given is not None
    }
    others = deploying(tree["LOSS"])
    for entry, name in terms.items():
        if name == "dml" and not tree["TEACHER"]["TRAIN"]:
            yield f"LOSS.{entry}", "nothing is mutual: it is kd of TEMPERATURE 1 (TEACHER.TRAIN)."
        if "teachers" in DISTILLERS.needs(name) and len(teachers_of(tree)) == 1:
            yield f"LOSS.{entry}", "it takes several teachers (TEACHER/2), and with one it is kd."
        if name == "cross_entropy" and others:
            other = terms[others[0]]
            why = f"it trains a classifier that is thrown away: {other} deploys another."
            yield f"LOSS.{entry}", why


def refuse_other_teacher(
    draft: Draft, at: str, branch: Mapping[str, Any], keys: Mapping[str, Key], recipe: Config
) -> None:
    """A teacher that a recipe trains is the recipe's student, and has its options."""
    for term in deploying(recipe.tree["LOSS"]):
        if not branch["WEIGHTS"]:
            raise draft.error(
                f"{at}.CONFIG",
                f"what {recipe.path} trains can't teach: {term} makes another network of its "
                "STUDENT.",
            )
    for name, key in keys.items():
        if branch[name] != key.default:
            raise draft.error(
                f"{at}.{name}",
                f"{shown(branch[name])} here, and {recipe.path} has {shown(key.default)}.",
            )


def refuse_other_baseline(draft: Draft, tree: Mapping[str, Any], recipe: Config) -> None:
    """BASELINE trains the same student on the same images."""
    for branch, free in (("STUDENT", ()), ("DATASET", SAME_IMAGES)):
        other = recipe.tree[branch]
        for key, value in tree[branch].items():
            if key not in free and value != other.get(key):
                at = f"{branch}.{key}"
                way = " On a command line it is for both." if branch == "DATASET" else ""
                raise draft.error(
                    "BASELINE",
                    f"{at} is {shown(value)} in {draft.source(at)}, and {recipe.path} has "
                    f"{shown(other.get(key))}.{way}",
                )


def other_training(draft: Draft, recipe: Config) -> Iterator[tuple[str, str]]:
    """What a command line changes in the student's training and not in BASELINE's.

    A method's own file may train otherwise on purpose; but not for fewer epochs.
    """
    theirs = recipe.tree.SOLVER
    found = [
        f"{key} is {shown(value)} here and {shown(theirs[key])} there"
        for key, value in draft.tree.SOLVER.items()
        if value != theirs[key]
        and key not in ROUNDING
        and (
            draft.source(f"SOLVER.{key}") == "command line"
            or (key == "EPOCHS" and value < theirs[key])
        )
    ]
    if found:
        yield "BASELINE", f"SOLVER.{', '.join(found)}: the gain has that in it."
