"""A student that leaves home: written in a few formats, each held against the original.

The folder is made beside its place and renamed when all of it is right: there is a whole export,
or none.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdframe import writing
from kdframe.formats.base import Format, Refused, Student, normalised, taken
from kdframe.loading import EVALUATION, Loader

log = logging.getLogger("kdframe")

CARD, ABOUT, RECIPE = "README.md", "about.json", "recipe.yaml"
BATCHES = (1, 3, 64)  # sizes that are tried besides the pass over the split
BATCH = 100  # images of that pass
TOLERANCE = 1e-4  # of the largest logit: kernels add in another order
RULE = (
    f"no logit is further from the network's own than rounding is ({TOLERANCE:g} of the largest), "
    f"also in batches of {', '.join(map(str, BATCHES[:-1]))} and {BATCHES[-1]}"
)
Images = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class Differs(RuntimeError):
    """A file doesn't answer as the network does that it was written from."""


class Original(NamedTuple):
    """What the network itself says about the test split."""

    logits: Tensor  # (N, K)
    target: Tensor  # (N,)

    @property
    def top1(self) -> float:
        """The accuracy in percent."""
        return percent(self.logits.argmax(dim=1) == self.target)


class Check(NamedTuple):
    """How a file compares with the original on the test split."""

    file: str
    top1: float  # percent
    difference: float  # the largest of any logit
    largest: float  # logit of the original
    other: int  # images for which it names another class
    images: int

    def __str__(self) -> str:
        return (
            f"{self.top1:.2f} % of {self.images:,} test images, largest difference "
            f"{self.difference:.1e} in logits up to {self.largest:.1f}, {self.other} named "
            "otherwise"
        )


def export(
    student: Student,
    formats: Mapping[str, Format],
    images: Images,
    target: Path,
    card: Callable[[Original, Mapping[str, Check]], str],
    *,
    recipe: str = "",
    force: bool = False,
    accept: Callable[[Original], None] = lambda original: None,
    say: Callable[[str], None] = log.info,
) -> dict[str, Check]:
    """Writes ``target``: a file a format, about.json, README.md (``card``'s text) and recipe.yaml.

    Args:
        student: what leaves.
        formats: modules of ``kdframe.formats`` by their names.
        images: the test split, anew with each call: uint8 images (B, 3, H, W), targets (B,).
        target: a folder that isn't there, or is empty; with ``force``, or holds an export.
        card: what README.md says when all is checked.
        recipe: the config that trained it, as YAML.
        force: replace an export that is there.
        accept: raises where what the network itself answers isn't what it should be.
        say: told of each file's check.

    Raises:
        Refused: a folder that is taken; a format that can't hold this student.
        Differs: a format answers otherwise than the network; nothing is left of the export.
    """
    refuse_taken(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = writing.temporary_of(target)
    try:
        made.mkdir()
        for form in formats.values():
            form.write(student, made)
        original, checks = ask(student, images), {}
        accept(original)
        for name, form in formats.items():
            checks[name] = held(student, form, made, images, original)
            say(f"{name:12} {checks[name]}")
        inputs = {name: form.INPUT or student.input for name, form in formats.items()}
        told = {name: check._asdict() for name, check in checks.items()}
        about = {**student.about, "input": inputs, "checks": told}
        writing.write_json(made / ABOUT, about)
        writing.write_text(made / CARD, card(original, checks))
        if recipe:
            writing.write_text(made / RECIPE, recipe)
        put(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return checks


def refuse_taken(target: Path, force: bool) -> None:
    """Raises Refused where a folder is in the way; only exports are ever replaced."""
    if target.exists() and not target.is_dir():
        raise Refused(f"--output: {target} is a file.")
    if Path.cwd().is_relative_to(target.resolve()):
        raise Refused(f"--output: {target} holds the working folder, which can't be replaced.")
    there = [path.name for path in target.iterdir()] if target.exists() else []
    if not there:
        return
    if not {CARD, ABOUT} <= set(there):
        raise Refused(f"--output: {target} holds files, and they aren't an export.")
    if not force:
        raise Refused(
            f"--output: {target} holds an export: --force replaces it, another --output leaves it."
        )


def ask(student: Student, images: Images) -> Original:
    """The network itself on every image."""
    logits, targets = [], []
    with torch.no_grad():
        for image, target in images():
            batch = normalised(taken(image, "unit", student.about), student.about)
            logits.append(student.backbone(batch).logits)
            targets.append(target)
    return Original(torch.cat(logits), torch.cat(targets))


def held(student: Student, form: Format, folder: Path, images: Images, original: Original) -> Check:
    """Loads a file as its user will, and asks it about every image, and in batches of each size.

    Raises:
        Differs: an answer is further from the network's than rounding is.
    """
    kind = form.INPUT or student.input
    answers = form.answers(folder)
    with torch.no_grad():
        found = torch.cat([answers(taken(image, kind, student.about)) for image, _ in images()])
        refuse_other(form.FILE, "", found, original.logits, original)
        few = next(images())[0]
        for size in BATCHES:
            rows = torch.arange(size) % len(few)
            again = answers(taken(few[rows], kind, student.about))
            refuse_other(
                form.FILE, f" in a batch of {size}", again, original.logits[rows], original
            )
    said, named = original.logits.argmax(dim=1), found.argmax(dim=1)
    return Check(
        file=form.FILE,
        top1=percent(named == original.target),
        difference=float((found - original.logits).abs().max()),
        largest=float(original.logits.abs().max()),
        other=int((said != named).sum()),
        images=len(found),
    )


def refuse_other(file: str, when: str, found: Tensor, logits: Tensor, original: Original) -> None:
    """Raises Differs where logits are of another shape, or further off than rounding is."""
    if found.shape != logits.shape:
        shapes = tuple(found.shape), tuple(logits.shape)
        raise Differs(f"{file} answers{when} with logits of {shapes[0]}, not {shapes[1]}")
    difference = float((found - logits).abs().max())
    allowed = TOLERANCE * float(original.logits.abs().max())
    if not difference <= allowed:  # nor if it isn't a number
        raise Differs(
            f"{file} differs from the network{when} by {difference:.1e} in a logit, and at most "
            f"{allowed:.1e} is rounding: it isn't kept"
        )


def percent(right: Tensor) -> float:
    """Of images (N,) that are True."""
    return 100 * float(right.double().mean())


def put(made: Path, target: Path) -> None:
    """Gives the finished folder its name, once all that it holds is on the disk."""
    for path in (*made.iterdir(), made):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    old = made.with_name(f"{made.name}.old")
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def in_batches(test: Loader) -> Images:
    """A split's images as ``export`` takes them."""
    starts = range(0, len(test), BATCH)
    parts = [torch.arange(start, min(start + BATCH, len(test))) for start in starts]
    return lambda: ((image, target) for image, target, _ in test.raw(parts, EVALUATION))
