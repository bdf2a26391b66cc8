"""The word that was meant, in capitals or not: one a slip of a letter away, else the most like."""

import difflib
from collections.abc import Iterable
from itertools import takewhile

TIES = 3  # words that are named where several are a slip away
LIKE = 0.6  # of difflib's ratio, from 0 to 1


def nearest(word: str, known: Iterable[str], cutoff: float = LIKE) -> list[str]:
    """The likeliest of ``known``, best first: those that differ in case alone, else those a slip
    away, else the one most like, or none.
    """
    folded = {other: other.casefold() for other in known}
    word = word.casefold()
    same = [other for other, its in folded.items() if its == word]
    slips = same or [other for other, its in folded.items() if one_slip(word, its)]
    if slips:
        return sorted(slips, key=lambda other: -likeness(word, folded[other]))[:TIES]
    close = difflib.get_close_matches(word, folded.values(), n=1, cutoff=cutoff)
    return [other for other, its in folded.items() if its in close][:1]


def likeness(a: str, b: str) -> float:
    """How much of one word is in the other, from 0 to 1."""
    return difflib.SequenceMatcher(None, a, b).ratio()


def one_slip(a: str, b: str) -> bool:
    """Whether a letter put in, left out, mistaken or swapped with its neighbour makes a into b."""
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    a, b = a[same:], b[same:]
    swapped = a[:2] == b[:2][::-1] and a[2:] == b[2:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or swapped
