"""What a user wrote, as layers of plain data: a file's bases, the file, the command line."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdframe.nearest import nearest
from kdframe.values import ConfigError, hint, shown
from kdframe.yaml_text import parse

SIZE = 2**20  # bytes of a file
DEPTH = 8  # files in a chain of bases
KEY = re.compile(r"[A-Z][\w/]*(\.[\w/-]+)*")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path has one slash left
HOME = "configs"  # a folder of this name holds configs that may stand on one another


class Layer(NamedTuple):
    """Settings that stand in one place."""

    source: str  # as messages name it
    folder: Path  # what the paths in it are relative to
    data: dict[str, Any]
    lines: Mapping[str, int] = {}  # of every dotted key, from 1; none on a command line


def from_file(path: Path, named_by: str = "", above: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a file, its deepest ``_BASE_`` first.

    Raises:
        ConfigError: a file that isn't there or isn't a plain mapping; bases in a circle, or
            outside the tree of the config that they are the bases of.
    """
    data, lines = mapping_in(path, named_by)
    chain = (*above, path.resolve())
    if path.resolve() in above:
        raise ConfigError(f"{named_by}{path} leads back to itself.")
    if len(chain) > DEPTH:
        raise ConfigError(f"{named_by}{path} is number {len(chain)} in a chain of at most {DEPTH}.")
    layer = Layer(str(path), path.parent, data, lines)
    if "_BASE_" not in data:
        return [layer]
    base, line = data.pop("_BASE_"), lines["_BASE_"]
    if not isinstance(base, str) or "://" in base or Path(base).is_absolute():
        raise ConfigError(
            f"{path}: _BASE_ takes a path relative to this file, not {shown(base)}.", line
        )
    tree, below = tree_of(chain[0]), path.parent / base
    if is_file(below) and not any(folder in below.resolve().parents for folder in tree):
        raise ConfigError(
            f"{path}: _BASE_: {base} is outside of {' and '.join(map(str, tree))}: a config stands "
            "on files of its own tree alone.",
            line,
        )
    return [*from_file(below, f"{path}: _BASE_: ", chain), layer]


def mapping_in(path: Path, named_by: str = "") -> tuple[dict[str, Any], Mapping[str, int]]:
    """What one file says, and the line of every dotted key.

    Raises:
        ConfigError: it isn't there, or isn't a plain mapping; ``named_by`` begins the sentence
            about one that isn't there.
    """
    data, lines = parse(text_of(path, named_by), str(path))
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: a config is a mapping of keys, not {shown(data)}.")
    return data or {}, lines


def tree_of(config: Path) -> list[Path]:
    """The folders that hold a config's bases, however far down: its own, the nearest one above it
    that is named configs, and the working folder if the config is in there.
    """
    above, here = list(config.resolve().parents), Path.cwd().resolve()
    home = [folder for folder in above if folder.name == HOME][:1]
    widest = [*([here] if here in above else []), *home, above[0]]
    return [folder for folder in widest if not set(folder.parents) & set(widest)]


def from_words(words: Sequence[str], known: Iterable[str] = ()) -> list[Layer]:
    """The layers of a command line's ``KEY VALUE`` and ``KEY=VALUE``; values are YAML.

    It is one, but that a word which brings back what a word before it dropped begins another.

    ``known``: keys that are named where one is written in small letters.

    Raises:
        ConfigError: a word that is no key, a key without value, a value that is no YAML.
    """
    layers = [Layer("command line", Path(), {})]
    rest = iter(words)
    for word in rest:
        key, sign, text = word.partition("=")
        if not KEY.fullmatch(key):
            large = (key.upper(), key.partition(".")[0].upper())
            raise ConfigError(
                f"command line: {shown(word)} is no key; settings are written KEY VALUE or "
                f"KEY=VALUE, as in SOLVER.LR 0.1.{hint([k for k in large if k in known][:1])}"
            )
        value = text if sign else next(rest, None)
        if value is None:
            raise ConfigError(f"command line: {key} has no value.")
        setting: Any = parse(value, f"command line: {key}")[0] if value else ""
        for part in reversed(key.split(".")):
            setting = {part: setting}
        if brings_back(setting, layers[-1].data):
            layers.append(Layer("command line", Path(), {}))
        overlay(layers[-1].data, setting, "command line", {})
    return layers


def brings_back(data: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether ``data`` has a mapping where ``before`` has null: one mapping can't hold both."""
    return any(
        before[key] is None or (isinstance(before[key], dict) and brings_back(value, before[key]))
        for key, value in data.items()
        if isinstance(value, dict) and key in before
    )


def overlay(
    tree: dict[str, Any], data: dict[str, Any], source: str, sources: dict[str, str], at: str = ""
) -> None:
    """Lays ``data`` over ``tree``, and notes for each key it sets where that stands."""
    for key, value in data.items():
        name = at + key
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
                sources[name] = source
            sources.setdefault(name, source)
            overlay(tree[key], value, source, sources, f"{name}.")
        else:
            if isinstance(tree.get(key), dict):
                for gone in [other for other in sources if other.startswith(f"{name}.")]:
                    del sources[gone]
            tree[key], sources[name] = value, source


def is_file(path: Path) -> bool:
    """Whether there is such a file, as far as one may look."""
    try:
        return path.is_file()
    except OSError:
        return False


def text_of(path: Path, named_by: str) -> str:
    """A file's text; ``named_by`` begins the message where there is no such file."""
    if URL.match(str(path)):
        raise ConfigError(f"{named_by}{path} is an address; only files are read.")
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{named_by}{path} is no .yaml file; nothing else is read.")
    if not is_file(path):
        raise ConfigError(f"{named_by}{missing(path)}")
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: it can't be read: {error.strerror}.") from error
    if len(raw) > SIZE:
        raise ConfigError(f"{path}: a config is at most 1 MiB.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: line {line}: it can't be read as UTF-8 ({error.reason})."
        ) from error


def missing(path: Path) -> str:
    """The sentence about a file that isn't there, or isn't one that can be read from end to end."""
    try:
        if path.exists():
            return f"{path} is {'a folder' if path.is_dir() else 'a device or a pipe'}, not a file."
        folder = path.parent if path.parent.is_dir() else None
        near = nearest(path.name, [p.name for p in folder.glob("*.y*ml")]) if folder else []
    except OSError:  # it leads in a circle, or may not be looked at
        near = []
    return f"there is no file {path}.{hint([name for name in near if name != path.name])}"
