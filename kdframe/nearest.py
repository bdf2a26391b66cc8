"""The word that was meant: one that is a slip of a letter away, else the one most like it."""

import difflib
from collections.abc import Iterable
from itertools import takewhile

TIES = 3  # words that are named where several are a slip away
LIKE = 0.6  # of difflib's ratio, from 0 to 1


def nearest(word: str, known: Iterable[str], cutoff: float = LIKE) -> list[str]:
    """The likeliest of ``known``, best first: those a slip away, or the one most like, or none."""
    known = list(dict.fromkeys(known))
    slips = [other for other in known if one_slip(word, other)]
    if not slips:
        return difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return sorted(slips, key=lambda other: -likeness(word, other))[:TIES]


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
