"""Every distiller on a page, out of the registry: source, equation, options, and what it needs."""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from textwrap import dedent
from typing import Any

from kdframe.registry import BACKBONES, DISTILLERS, NEEDS, Part

COMMAND = "tools/list_parts.py distillers --markdown"
WORDS = {
    **NEEDS,
    "no teacher": "it works without one",
    "learned": "it has parameters of its own, trained with the student",
    "prepare": "before step 0 it sees an epoch or more of the teacher's answers",
    "deployed": "another network is evaluated, counted and exported in the student's place",
}
HEAD = f"""# Methods

Every term that `LOSS` takes, from its own docstring; made by `{COMMAND}`.
A term's options are its keys in the config, beside `WEIGHT` (1), `WARMUP`, `START` and `STOP`
(epochs); it returns its loss unweighted, in the units that it states.

*Published* is the weight and the recipe of the paper or of its public code.
`CIFAR-100: a, b, c, d` are the student's top-1 in percent as papers report it, for these networks:

|     | teacher    | student   |
| :-- | :--------- | :-------- |
| a   | resnet32x4 | resnet8x4 |
| b   | WRN-40-2   | WRN-16-2  |
| c   | vgg13      | vgg8      |
| d   | resnet56   | resnet20  |

Older methods' figures are of the last epoch, newer ones' of the best epoch on the test set, which
is some tenths of a point higher; no figure here is kdframe's own.
"""


def page() -> str:
    """The page as markdown: a table of kdframe's own distillers, and a section of each."""
    names = [n for n in DISTILLERS if DISTILLERS[n].__module__.startswith("kdframe.")]
    told = {name: needs(name) for name in names}
    used = [word for word in WORDS if any(word in words for words in told.values())]
    lines = [HEAD, row("method", "source", "what it does", "needs"), row(*[":--"] * 4)]
    for name in names:
        where, what = cited(source(DISTILLERS[name])), escaped(first_line(name))
        lines.append(row(f"[{name}](#{name})", where, what, ", ".join(told[name])))
    lines += ["", *(f"- *{word}*: {WORDS[word]}" for word in used)]
    for name in names:
        lines += ["", *section(name)]
    return "\n".join(lines) + "\n"


def section(name: str) -> Iterator[str]:
    """One distiller: where from, what it does, its options."""
    part = DISTILLERS[name]
    file = f"{part.__module__.replace('.', '/')}.py"
    yield f"## {name}\n"
    yield f"{linked(escaped(source(part)))}  [{file}](../{file})\n"
    yield as_markdown(inspect.getdoc(part) or "")
    options = DISTILLERS.options(name)
    if options:
        yield "\n".join(("", row("option", "default"), row(":--", ":--")))
    for option, default in options.items():
        yield row(f"`{option.upper()}`", f"`{json.dumps(default)}`")


def row(*cells: str) -> str:
    """Of a table."""
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def needs(name: str) -> dict[str, str]:
    """What a distiller asks for beyond (student, teacher, batch), and what it brings; in words."""
    part = DISTILLERS[name]
    words = [*DISTILLERS.needs(name)]
    if DISTILLERS.does_without(name, "teacher"):
        words.append("no teacher")
    if inspect.isclass(part):
        try:
            module: Any = part(*(BACKBONES["cifar_resnet"](10, depth=8, width=w) for w in (2, 4)))
        except ValueError as error:
            return {word: WORDS[word] for word in words} | {"other networks": str(error)}
        learned = any(p.requires_grad for p in module.parameters())
        words += ["learned"] * learned
        words += [word for word in ("prepare", "deployed") if hasattr(part, word)]
    return {word: WORDS[word] for word in words}


def source(part: Part) -> str:
    """The first line of the docstring of the file that a part is in; of a distiller, its source."""
    docstring = sys.modules[getattr(part, "func", part).__module__].__doc__ or ""
    return docstring.strip().partition("\n")[0]


def first_line(name: str) -> str:
    """What a distiller does, in a line."""
    return (inspect.getdoc(DISTILLERS[name]) or "").partition("\n")[0]


def cited(line: str) -> str:
    """Who, when and where of a source's line, without title and equation."""
    found = re.search(r"([^:;]+?\b(?:19|20)\d\d)\b, (arXiv:\d{4}\.\d{4,5}|[^,;(]+)", line)
    return linked(escaped(f"{found[1].strip()}, {found[2].strip(' .')}" if found else line))


def linked(text: str) -> str:
    """With links in the place of arXiv numbers."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def as_markdown(docstring: str) -> str:
    """What stands indented becomes code; what does so under ``Raises:``, a list."""
    blocks, title = list[str](), ""
    for indented, group in groupby(paragraphs(docstring), key=lambda text: text.startswith(" ")):
        text = dedent("\n\n".join(group))
        if not indented:
            blocks.append(linked(escaped(text)))
            title = text.rpartition("\n")[2]
        elif title in ("Raises:", "Args:"):
            items = re.split(r"\n(?=\S)", text)
            blocks.append("\n".join(f"- {escaped(' '.join(item.split()))}" for item in items))
        else:
            blocks.append("\n".join(("```", text.replace("``", ""), "```")))
    return "\n\n".join(blocks)


def paragraphs(docstring: str) -> Iterator[str]:
    """Runs of lines that are all indented or all not; blank lines end a run too."""
    kinds = groupby(docstring.splitlines(), key=lambda line: line[:1].isspace() if line else None)
    return ("\n".join(lines) for indented, lines in kinds if indented is not None)


def escaped(text: str) -> str:
    """Plain text so that markdown shows it unchanged; ``code`` becomes markdown's."""
    pieces = re.split(r"``(.+?)``", text, flags=re.DOTALL)
    pieces[::2] = [re.sub(r"[\\*<`]|(?<!\w)_", r"\\\g<0>", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"`{piece}`" for piece in pieces[1::2]]
    return re.sub(r"(?m)^(1?)([#>+.)])(?=\s)", r"\1\\\2", "".join(pieces))
