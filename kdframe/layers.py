"""What a user wrote, as layers of plain data: a file's bases, the file, the command line.

YAML is read as data and nothing else: no tags, no aliases, no key twice, and of its words only
true and false are bools, so that ``off`` and ``no`` can be names.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kdframe.values import ConfigError, hint, shown

SIZE = 2**20  # bytes of a file
DEPTH = 8  # files in a chain of bases
NESTED = 20  # mappings and lists, one in another
KEY = re.compile(r"[A-Z][\w/]*(\.[\w/-]+)*")
TAG = "tag:yaml.org,2002:"


class Layer(NamedTuple):
    """Settings that stand in one place."""

    source: str  # as messages name it
    folder: Path  # what the paths in it are relative to
    data: dict[str, Any]


def from_file(path: Path, named_by: str = "", above: tuple[Path, ...] = ()) -> list[Layer]:
    """The layers of a file, its deepest ``_BASE_`` first.

    Raises:
        ConfigError: a file that isn't there or isn't a plain mapping; bases in a circle.
    """
    data = parse(text_of(path, named_by), str(path))
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: a config is a mapping of keys, not {shown(data)}.")
    data = data or {}
    chain = (*above, path.resolve())
    if path.resolve() in above:
        raise ConfigError(f"{named_by}{path} leads back to itself.")
    if len(chain) > DEPTH:
        raise ConfigError(f"{named_by}{path} is number {len(chain)} in a chain of at most {DEPTH}.")
    layer = Layer(str(path), path.parent, data)
    if "_BASE_" not in data:
        return [layer]
    base = data.pop("_BASE_")
    if not isinstance(base, str) or "://" in base or Path(base).is_absolute():
        raise ConfigError(f"{path}: _BASE_ takes a path relative to this file, not {shown(base)}.")
    return [*from_file(path.parent / base, f"{path}: _BASE_: ", chain), layer]


def from_words(words: Sequence[str]) -> Layer:
    """The layer of a command line's ``KEY VALUE`` and ``KEY=VALUE``; values are YAML.

    Raises:
        ConfigError: a word that is no key, a key without value, a value that is no YAML.
    """
    data: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        key, sign, text = word.partition("=")
        if not KEY.fullmatch(key):
            raise ConfigError(
                f"command line: {shown(word)} is no key; settings are written KEY VALUE or "
                "KEY=VALUE, as in SOLVER.LR 0.1."
            )
        value = text if sign else next(rest, None)
        if value is None:
            raise ConfigError(f"command line: {key} has no value.")
        setting: Any = parse(value, f"command line: {key}") if value else ""
        for part in reversed(key.split(".")):
            setting = {part: setting}
        overlay(data, setting, "command line", {})
    return Layer("command line", Path(), data)


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
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{named_by}{path} is no .yaml file; nothing else is read.")
    if not is_file(path):
        others = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, others, n=1)
        raise ConfigError(f"{named_by}there is no file {path}.{hint(near)}")
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it can't be read: {error}.") from error
    if len(raw) > SIZE:
        raise ConfigError(f"{path}: a config is at most 1 MiB.")
    return text


def parse(text: str, source: str) -> Any:
    """YAML as plain data; ``source`` begins the message about what isn't."""
    try:
        level = 0
        for event in yaml.parse(text, Loader):
            level += isinstance(event, yaml.CollectionStartEvent)
            level -= isinstance(event, yaml.CollectionEndEvent)
            if level > NESTED:
                refuse("it nests too deep", event.start_mark)
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                refuse("anchors, aliases and tags are not allowed", event.start_mark)
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{source}: {line}{error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: {' '.join(str(error).split())}.") from error


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, narrowed; its own reads yes, off and 2026-01-01 as no strings."""

    yaml_implicit_resolvers = {
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag in (f"{TAG}null", f"{TAG}int", f"{TAG}float")
            or (tag == f"{TAG}bool" and first in "tTfF")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            word = key.value if isinstance(key.value, str) else "a list"
            if key.tag != f"{TAG}str" or not re.fullmatch(r"[\w/-]+", word):
                refuse(
                    f"a key is a word of letters, digits, _, / and -, not {shown(word)}",
                    key.start_mark,
                )
            if word in seen:
                refuse(f"{word} stands here twice", key.start_mark)
            seen.add(word)
        return super().construct_mapping(node, deep)


def refuse(problem: str, mark: Any) -> None:
    """Ends the reading, with the line."""
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
