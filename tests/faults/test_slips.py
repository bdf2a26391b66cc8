"""One letter wrong in a key: the answer names the key that was meant."""

import random
import re
import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kdframe.config import ConfigError, load
from kdframe.yaml_text import parse

ROOT = Path(__file__).parents[2]
WANTED = 0.95


def slips(word: str, draw: random.Random) -> list[str]:
    """Every letter left out, swapped with the next, mistaken, and one put in at every place."""
    letters = string.ascii_uppercase if word == word.upper() else string.ascii_lowercase
    found = [word[:i] + word[i + 1 :] for i in range(len(word))]
    found += [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)]
    found += [word[:i] + draw.choice(letters) + word[i + 1 :] for i in range(len(word))]
    found += [word[:i] + draw.choice(letters) + word[i:] for i in range(len(word) + 1)]
    return sorted({slip for slip in found if slip != word and re.fullmatch(r"[\w/-]+", slip)})


def keys_of_shipped_configs() -> dict[str, Path]:
    """Every dotted key that stands in a config of ours, with the first that has it; studies are
    read by another reader.
    """
    studies = set((ROOT / "configs/studies").glob("*.yaml"))
    files = sorted(set((ROOT / "configs").rglob("*.yaml")) - studies)
    found: dict[str, Path] = {}
    for path in files:
        for key in parse(path.read_text(), str(path))[1]:
            found.setdefault(key, path.relative_to(ROOT))
    return found


def renamed(tree: dict, words: list[str], slip: str) -> dict:
    """The same mapping, in the same order, with the last of the words written wrongly."""
    first, *rest = words
    return {
        (slip if key == first and not rest else key): renamed(value, rest, slip)
        if key == first and rest
        else value
        for key, value in tree.items()
    }


def cases(seed: int) -> Iterator[tuple[str, Path, str]]:
    draw = random.Random(seed)
    for key, path in keys_of_shipped_configs().items():
        for slip in slips(key.rpartition(".")[2], draw):
            yield key, path, slip


def answer(where: Path, key: str, path: Path, slip: str) -> str:
    """What is said to a config with that slip; empty if it is right all the same."""
    text = (where / path).read_text()
    tree = renamed(parse(text, str(path))[0], key.split("."), slip)
    edited = where / path.with_name("edited.yaml")
    edited.write_text(yaml.safe_dump(tree, sort_keys=False))
    try:
        load(edited)
    except ConfigError as error:
        return str(error)
    return ""


def is_named(key: str, said: str) -> bool:
    """The key by its last word, after "Did you mean"; a term or hook has no dots there."""
    near = said.rpartition("Did you mean ")[2] if "Did you mean " in said else ""
    word = re.escape(key.rpartition(".")[2])
    return bool(re.search(rf"(?<![\w/-]){word}(?![\w/-])", near))


def measured(where: Path, some: list[tuple[str, Path, str]], count) -> float:
    shutil.copytree(ROOT / "configs", where / "configs")
    wrong, named, silent = [], 0, 0
    for key, path, slip in some:
        said = answer(where, key, path, slip)
        assert "\n" not in said
        silent += not said
        named += is_named(key, said)
        if said and not is_named(key, said):
            wrong.append(f"{key} as {slip}: {said}")
    print(*wrong, f"{silent} are other keys", sep="\n")
    count("slips of a letter named", named, of=len(some) - silent)
    return named / (len(some) - silent)


def test_a_slip_of_a_letter_names_the_key_that_was_meant(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    some = random.Random(0).sample(list(cases(0)), 120)
    assert measured(tmp_path, some, count) >= WANTED


@pytest.mark.faults
def test_every_slip_names_the_key_that_was_meant(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    assert measured(tmp_path, list(cases(1)), count) >= WANTED


def test_a_key_that_is_meant_is_not_named_for_another() -> None:
    said = "x.yaml: there is no SOLVER.EPOCH. Did you mean SOLVER.EPOCHS?"
    assert is_named("SOLVER.EPOCHS", said) and not is_named("SOLVER.EPOCH", said)
    assert is_named("LOSS.kd", "distillers has no 'fkd'. Did you mean dkd, kd or rkd?")
