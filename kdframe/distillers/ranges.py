"""What options and batches may be, and the sentence that refuses others."""

import difflib

from kdframe.backbones import Output


def above_0(**options: float) -> None:
    """Raises a ValueError for an option that isn't a number above 0 (nan isn't)."""
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} takes a number above 0, not {value}.")


def from_0(**options: float) -> None:
    """Raises a ValueError for an option that isn't a number from 0 on (nan isn't)."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"{name} takes a number from 0, not {value}.")


def from_0_to_1(**options: float) -> None:
    """Raises a ValueError for an option outside of [0, 1] (nan is)."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} takes a number from 0 to 1, not {value}.")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises a ValueError, with the nearest word, for an option that isn't one of ``allowed``."""
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        words = " or ".join((", ".join(allowed[:-1]), allowed[-1]))
        raise ValueError(f"{name} takes {words}, not {value!r}.{hint}")


def at_least(images: int, output: Output) -> None:
    """Raises a ValueError for a batch of fewer images than a comparison of images needs."""
    if len(output.logits) < images:
        raise ValueError(
            f"it compares images with each other: a batch takes {images} at least, "
            f"not {len(output.logits)}."
        )
