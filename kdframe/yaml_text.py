"""YAML as data and nothing else: no tags, no aliases, no key twice.

Of its words only true and false are bools, so that ``off`` and ``no`` can be names; a number is
decimal or 0x, so that ``010`` and ``1:30`` are what they look like.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from kdframe.values import ConfigError, shown

NESTED = 20  # mappings and lists, one in another
NODES = 20_000  # keys and values: a second's work
TAG = "tag:yaml.org,2002:"
NUMBERS = {
    f"{TAG}int": r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]{1,16})",
    f"{TAG}float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}


def parse(text: str, source: str) -> tuple[Any, dict[str, int]]:
    """Plain data, and the line, from 1, of every dotted key.

    Raises:
        ConfigError: text that isn't plain data, with its line; ``source`` begins the sentence.
    """
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(lines_of(node))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{source}: {line}{error.problem}.") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}: line {number}: the character #x{error.character:04x} can't stand in YAML."
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: {' '.join(str(error).split())}.") from error


def lines_of(node: yaml.Node, at: str = "") -> Iterator[tuple[str, int]]:
    """The dotted keys below a node, each with its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{at}{key.value}", key.start_mark.line + 1
            yield from lines_of(value, f"{at}{key.value}.")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, narrowed; its own reads yes, off and 2026-01-01 as no strings."""

    yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(rf"(?:{NUMBERS[tag]})\Z") if tag in NUMBERS else pattern)
            for tag, pattern in resolvers
            if tag in (f"{TAG}null", *NUMBERS) or (tag == f"{TAG}bool" and first in "tTfF")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.level = self.count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses here, before anything is built, what makes little text into much work."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.level, self.count = self.level + 1, self.count + 1
        if self.level > NESTED + 1:
            refuse("it nests too deep", event.start_mark)
        if self.count > NODES:
            refuse(f"a config has at most {NODES:,} keys and values", event.start_mark)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            refuse("anchors, aliases and tags are not allowed", event.start_mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a number of more than 4300 digits
            refuse(str(error).partition(";")[0], node.start_mark)

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
