"""MODULES: the one key of a config by which code is run, and only code that is there already.

A name is looked for among what is installed and then in the working folder; never beside the
config.  A config from elsewhere can name such a module, and can't bring one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kdframe.nearest import one_slip
from kdframe.registry import BACKBONES, DATASETS, DISTILLERS, HOOKS
from kdframe.values import hint, shown

if TYPE_CHECKING:
    from kdframe.config import Draft

REGISTRIES = (BACKBONES, DATASETS, DISTILLERS, HOOKS)
OWN = "kdframe"


def import_modules(draft: Draft) -> Iterator[tuple[str, str]]:
    """Lets the user's own modules register their parts.

    Returns:
        The key and why it has no effect, where a module registers nothing.

    Raises:
        ConfigError: a name that no module of parts can have; one that can't be imported.
    """
    names: tuple[str, ...] = draft.tree["MODULES"]
    for name in names:
        if why := refusal(name):
            raise draft.error("MODULES", why)
    if names and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last: what is installed can't be replaced from there
    idle = []
    for name in names:
        known, before = name in sys.modules, registered()
        try:
            importlib.import_module(name)
        except Exception as error:  # it runs the user's code: whatever that raises, it names
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            near = [other for other in here() if one_slip(other, name)]
            raise draft.error("MODULES", f"{name} can't be imported: {why}{hint(near)}") from error
        if not known and registered() == before:
            idle.append(("MODULES", f"it has no effect: {name} registers no part."))
    return iter(idle)


def refusal(name: str) -> str:
    """Why a name can't be that of a module of parts; empty if it can."""
    words = name.split(".")
    if words[-1] == "py":
        return f"it takes names of modules, as in [my_terms]: {shown(name)} without its .py."
    if not all(word.isidentifier() and not word.startswith("__") for word in words):
        return f"it takes names of modules, as in [my_terms], not {shown(name)}."
    if words[0] in sys.stdlib_module_names:
        return f"{name} is Python's own and has no part."
    if words[0] == OWN:
        return f"{name} is kdframe's own; its parts are there without it."
    return ""


def here() -> list[str]:
    """The modules of the working folder."""
    return sorted(path.stem for path in Path().glob("*.py"))


def registered() -> set[str]:
    """Names of the parts that aren't kdframe's own."""
    return {
        f"{registry.kind} {name}"
        for registry in REGISTRIES
        for name, module in registry.homes().items()
        if module.partition(".")[0] != OWN
    }
