"""From a run's folder to an export of its student, with a card."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdframe import export, finished
from kdframe.config import ConfigError
from kdframe.finished import Finished
from kdframe.formats.base import INPUTS, Format, Student
from kdframe.registry import BACKBONES
from kdframe.reports.card import Facts, File, card
from kdframe.reports.complexity import complexity
from kdframe.reports.summary import formula

ODD = 1.0  # points between two measurements of the same network; half precision moves some images
FEW = 3  # images that are more than that in a small split


def ship(
    folder: Path,
    names: Sequence[str],
    target: Path,
    *,
    weights: str = "last",
    images: str = "unit",
    root: str = "",
    force: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, export.Check]:
    """Exports the student of the run in ``folder`` to ``target``, in the formats of these names.

    Args:
        folder: a finished run's.
        names: of ``kdframe.formats``.
        target: the export's folder, see ``export.export``.
        weights: last or best.
        images: what a graph's images are, of ``formats.base.INPUTS``.
        root: where DATASET's files are, if they have moved.
        force: replace an export that is there.
        say: told what is done.

    Raises:
        ConfigError: no finished run; its files, or its test split, aren't what they were.
        Refused, Differs: as of ``export.export``.
    """
    export.refuse_taken(target, force)
    run = finished.read(folder, weights, root)
    student = Student(run.student, run.about, images)
    formats: dict[str, Format] = {
        name: importlib.import_module(f"kdframe.formats.{name}") for name in names
    }
    if images != "unit" and all(form.INPUT for form in formats.values()):
        say(f"{'warning':12} --input has no effect: {' and '.join(names)} take normalised images")
    network = described(run.about["network"]["student"])
    say(f"{'student':12} {network} of {folder}, {weights} weights")

    def accept(original: export.Original) -> None:
        told = run.results[finished.MEASURED[weights]]["top1"]
        say(f"{'original':12} {original.top1:.2f} % of {len(original.target):,} test images")
        off = abs(original.top1 - told)
        if off > max(ODD, 100 * FEW / len(original.target)):
            raise ConfigError(
                f"{folder}: results.json says {told:.2f} % on the test split, and these weights "
                f"have {original.top1:.2f} %: is the split what it was?"
            )

    return export.export(
        student,
        formats,
        export.in_batches(run.test),
        target,
        lambda original, checks: card_of(run, student, formats, original, checks),
        recipe=(folder / "config.yaml").read_text(),
        force=force,
        accept=accept,
        say=say,
    )


def card_of(
    run: Finished,
    student: Student,
    formats: Mapping[str, Format],
    original: export.Original,
    checks: Mapping[str, export.Check],
) -> str:
    """README.md."""
    tree, cost = run.config.tree, complexity(student.backbone)
    solver = tree.SOLVER
    teachers = [name for name in tree if name.partition("/")[0] == "TEACHER" and tree[name].NAME]
    deployed = student.about["network"].get("term")
    with_head = f" with {deployed['name']}'s projector and teacher's classifier" if deployed else ""
    files = {
        name: File(
            form.FILE, INPUTS[form.INPUT or student.input], str(checks[name]), form.how(student)
        )
        for name, form in formats.items()
    }
    facts = Facts(
        network=f"{described(student.about['network']['student'])}{with_head}",
        teacher=", ".join(
            described(finished.part_of(BACKBONES, tree[name].NAME, tree[name])) for name in teachers
        ),
        dataset=tree.DATASET.NAME,
        formula=formula(tree.LOSS),
        solver=(
            f"{solver.EPOCHS} epochs ({run.results['steps']} steps of {solver.BATCH_SIZE} images), "
            f"{solver.OPTIMIZER}, lr {solver.LR:g} {solver.SCHEDULE}, {solver.PRECISION}, "
            f"augmentation {tree.DATASET.AUGMENT}"
            f"{f', averaged weights (EMA {solver.EMA:g})' if solver.EMA else ''}"
        ),
        about=student.about,
        run=run.run,
        results=run.results,
        top1=original.top1,
        counts=(cost.parameters, cost.multiply_adds),
        precision=solver.PRECISION,
        rule=export.RULE,
    )
    return card(facts, files, timm="timm" in formats)


def described(part: Mapping[str, Any]) -> str:
    """A network's name, and the options that it was given."""
    default = BACKBONES.options(part["name"])
    given = {key: value for key, value in part["options"].items() if value != default[key]}
    name = given.pop("model", part["name"])
    said = ", ".join(f"{key} {value}" for key, value in given.items())
    return f"{name} ({said})" if said else name
