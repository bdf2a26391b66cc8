"""A config from its files and overrides, in two passes.

Pass 1, ``read``, answers what needs no part, without torch: YAML, kdframe's own keys, paths.
Pass 2, ``Draft.load``, imports the parts that are named, and lets their options join the tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdframe.layers import Layer, from_file, from_words, is_file, overlay
from kdframe.nearest import nearest, one_slip
from kdframe.options import (
    grow,
    idle_teachers,
    idle_terms,
    other_training,
    refuse_other_baseline,
)
from kdframe.resolved import RECIPES, Config, error_of, set_by, source_of
from kdframe.schema import (
    BRANCHES,
    ENTRIES,
    WEIGHTS,
    branch_of,
    checked,
    contradictions,
    defaults,
    known_keys,
    teachers_of,
    without_effect,
    written,
)
from kdframe.shipped import find
from kdframe.values import ConfigError, hint, shown, unknown

__all__ = ["Config", "ConfigError", "Draft", "load", "read"]

SHARED = ("DATASET", "DEVICE", "DETERMINISTIC", "MODULES")  # what recipes take of a command line


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a file and of ``KEY VALUE`` or ``KEY=VALUE`` words, complete and frozen.

    Raises:
        ConfigError: whatever is wrong, in one line.
    """
    return read(path, overrides).load()


def read(path: str | Path, overrides: Sequence[str] = ()) -> "Draft":
    """Pass 1; imports no torch and no part.  A file that isn't there may be one that is shipped.

    Raises:
        ConfigError: whatever is wrong and needs no part to be seen, in one line.
    """
    return first_pass(find(path), from_words(overrides, known_keys({})))


@dataclass(frozen=True)
class Draft:
    """A config after pass 1: kdframe's own keys are whole and checked, a part's are as written.

    Attributes as of :class:`Config`; and ``layers``, that the tree was laid from.
    """

    tree: CfgNode
    path: Path
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    recipes: dict[str, "Draft"]
    shared: Mapping[str, Any]
    lines: Mapping[str, int]
    layers: tuple[Layer, ...]

    def source(self, key: str) -> str:
        """Where that key, or the nearest branch above it, was set."""
        return source_of(key, self.sources, self.path)

    def line(self, key: str) -> int:
        """As of :class:`Config`."""
        return self.lines.get(set_by(key, self.sources), 0)

    def error(self, key: str, message: str) -> ConfigError:
        """As of :class:`Config`."""
        return error_of(key, message, self)

    def load(self) -> Config:
        """Pass 2; imports the parts that are named, and torch with them.

        Raises:
            ConfigError: whatever is wrong, in one line.
        """
        recipes = {key: recipe.load() for key, recipe in self.recipes.items()}
        tree, dropped = grow(self, recipes)
        idle = {**dropped, **dict(idle_teachers(tree)), **dict(idle_terms(tree))}
        if "BASELINE" in recipes:
            refuse_other_baseline(self, tree, recipes["BASELINE"])
            idle |= dict(other_training(self, recipes["BASELINE"]))
        whole = CfgNode(tree)
        whole.freeze()
        return Config(
            tree=whole,
            path=self.path,
            sources={key: source for key, source in self.sources.items() if key not in dropped},
            warnings=(*self.warnings, *(str(self.error(*why)) for why in idle.items())),
            recipes=recipes,
            shared=self.shared,
            lines=self.lines,
        )


def first_pass(
    path: Path, over: list[Layer], named_by: str = "", above: tuple[Path, ...] = ()
) -> Draft:
    """A file with layers laid over it; ``above`` are the configs that it is a recipe of."""
    files = from_file(path, named_by)
    if path.resolve() in above:
        raise ConfigError(f"{named_by}{path} leads back to itself.")
    if any("ROWS" in layer.data for layer in files):
        raise ConfigError(
            f"{named_by}{path} is a study: tools/run_study.py --study {path} runs it."
        )
    shared = [taken_out(layer) for layer in files] + [
        layer._replace(data={key: layer.data[key] for key in SHARED if key in layer.data})
        for layer in over
    ]
    known = known_keys(written([*files, *over]))
    layers = tuple(checked(layer, known) for layer in (*files, *over))
    tree, sources, warnings = laid(layers)
    handed: dict[str, Any] = {}
    for layer in shared:
        overlay(handed, layer.data, layer.source, {})
    lines = {
        key: line
        for layer in layers
        for key, line in layer.lines.items()
        if sources.get(key) == layer.source
    }
    draft = Draft(CfgNode(tree), path, sources, (), {}, handed, lines, layers)
    warnings += [str(draft.error(*why)) for why in without_effect(tree)]
    draft = replace(draft, warnings=tuple(warnings))
    for key, why in contradictions(tree):
        raise slip(draft, key.partition(".")[0]) or draft.error(key, why)
    refuse_missing_weights(draft)
    read_recipes(draft, shared, (*above, path.resolve()))
    for at in teachers_of(tree):
        settle_teacher(draft, at)
    draft.tree.freeze()
    return draft


def taken_out(layer: Layer) -> Layer:
    """The layer for recipes that a dumped config holds."""
    given = layer.data.pop(RECIPES, {})
    if not isinstance(given, dict) or given.keys() - set(SHARED):
        raise ConfigError(
            f"{layer.source}: {RECIPES} takes a mapping of {', '.join(SHARED)}, not {shown(given)}."
        )
    return layer._replace(data=given)


def laid(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The layers, one over the other: the tree, where each key was set, and warnings."""
    tree, sources, warnings = defaults(), dict[str, str](), []
    for layer in layers:
        for branch in ENTRIES:
            for entry, given in layer.data.get(branch, {}).items():
                if given is None and entry not in tree[branch]:
                    warnings.append(
                        f"{layer.source}: {branch}.{entry}: it is null and drops nothing that was "
                        f"there before; an entry without options is {entry}: {{}}."
                    )
        overlay(tree, layer.data, layer.source, sources)
    term, teacher = (
        {key: own.default for key, own in BRANCHES[branch].items()}
        for branch in ("LOSS", "TEACHER")
    )
    tree |= {name: teacher | tree[name] for name in teachers_of(tree)}
    tree["LOSS"] = {
        k: given if given is None else term | given for k, given in tree["LOSS"].items()
    }
    return tree, sources, warnings


def slip(draft: Draft, at: str) -> ConfigError | None:
    """The answer to a key that is an own one of its branch but for a letter, where that is missed.

    Otherwise it waits for pass 2: it may be an option of the part.
    """
    own = list(BRANCHES[branch_of(at)])
    for key in draft.tree[at]:
        name = f"{at}.{key}"
        if key not in own and any(one_slip(key, other) for other in own):
            known = [f"{at}.{other}" for other in own]
            return unknown(draft.source(name), name, known, draft.line(name))
    return None


def refuse_missing_weights(draft: Draft) -> None:
    for branch in ("STUDENT", *teachers_of(draft.tree)):
        value, words = draft.tree[branch].WEIGHTS, WEIGHTS[branch_of(branch)]
        if value and value not in words and not is_file(Path(value)):
            raise draft.error(
                f"{branch}.WEIGHTS",
                f"there is no file {value}, and it is not {' or '.join(words)}."
                f"{hint(nearest(value, words))}",
            )


def read_recipes(draft: Draft, shared: list[Layer], above: tuple[Path, ...]) -> None:
    """Pass 1 of the configs that this one names; their paths become absolute in the tree."""
    tree, folder = draft.tree, Path()
    nodes = {f"{name}.CONFIG": tree[name] for name in teachers_of(tree)} | {"BASELINE": tree}
    for key, node in nodes.items():
        name = key.rpartition(".")[2]
        if not node[name]:
            continue
        seed = Layer(draft.source("SEED"), folder, {"SEED": tree.SEED})
        over = [*shared, seed] if key == "BASELINE" else shared
        recipe = first_pass(Path(node[name]), over, f"{draft.source(key)}: {key}: ", above)
        if recipe.tree.OUTPUT_DIR:
            raise recipe.error(
                "OUTPUT_DIR", f"it stays empty in a recipe, as {draft.path} uses this."
            )
        if key == "BASELINE" and recipe.tree.TEACHER.NAME:
            raise recipe.error("TEACHER", f"the BASELINE of {draft.path} trains its student alone.")
        draft.recipes[key] = recipe
        node[name] = str(Path(node[name]).absolute())


def settle_teacher(draft: Draft, at: str) -> None:
    """Its NAME from its recipe; and none at all, or one that has something to teach."""
    teacher, recipe = draft.tree[at], draft.recipes.get(f"{at}.CONFIG")
    unset = {key: own.default for key, own in BRANCHES["TEACHER"].items()}
    if recipe is not None:
        name = recipe.tree.STUDENT.NAME
        if teacher.NAME not in ("", name):
            raise draft.error(
                f"{at}.NAME", f"{shown(teacher.NAME)} here, and {recipe.path} has {shown(name)}."
            )
        teacher.NAME = name
    elif teacher.NAME and not (teacher.WEIGHTS or teacher.TRAIN):
        why = "a teacher needs WEIGHTS or CONFIG (or WEIGHTS: random)."
        raise slip(draft, at) or draft.error(at, why)
    elif not teacher.NAME and (at != "TEACHER" or dict(teacher) != unset):
        raise slip(draft, at) or draft.error(at, "it has settings, and neither NAME nor CONFIG.")
    if at != "TEACHER" and not draft.tree.TEACHER.NAME:
        raise draft.error(at, "it is one more teacher, and TEACHER names none.")
