"""The README of an exported student, for who ships it and wasn't there when it was trained."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdframe.reports.complexity import table

NAMED = 100  # classes that the card lists; about.json has them all
ROWS = {  # of results.json
    "test": "this student, last weights",
    "test_best": "this student, best on validation",
    "baseline": "the same network, trained alone",
    "teacher": "the teacher",
}


class File(NamedTuple):
    """One exported file, and what is to be said about it."""

    name: str
    input: str  # a sentence
    check: str  # how it compares with the network
    how: str  # three lines of Python


class Facts(NamedTuple):
    """What a card is made of."""

    network: str
    teacher: str  # empty: trained alone
    dataset: str
    formula: str  # of the loss
    solver: str
    about: Mapping[str, Any]  # as of ``formats.base.Student``
    run: Mapping[str, Any]  # run.json
    results: Mapping[str, Any]  # results.json
    top1: float  # percent, of the network itself in float32, measured at the export
    counts: tuple[int, int]  # parameters, multiply-adds
    precision: str  # of the run's measurements
    rule: str  # by which a file was kept


def card(facts: Facts, files: Mapping[str, File], timm: bool = False) -> str:
    """Markdown; its first lines are what Hugging Face's hub reads.  ``files`` by format."""
    about = facts.about
    taught = f"distilled from {facts.teacher}" if facts.teacher else "trained without a teacher"
    H, W = about["network"]["input_size"][1:]
    half = f"; the run's figures above are in {facts.precision}" * (facts.precision != "fp32")
    return "\n".join(
        [
            "---",
            f"library_name: {'timm' if timm else 'kdframe'}",
            "pipeline_tag: image-classification",
            "tags: [image-classification, knowledge-distillation, kdframe]",
            "---",
            "",
            f"# {facts.network} for {facts.dataset}",
            "",
            f"A classifier of {H}x{W} images in {len(about['classes'])} classes, {taught} on "
            f"{facts.dataset}; {facts.top1:.2f} % of its test split. The files hold the "
            "network that is deployed and nothing else: no teacher, and nothing that only training "
            "needed.",
            "",
            "## Load it",
            "",
            "`DIR` is this folder.",
            "",
            *loading(files),
            "## What goes in and what comes out",
            "",
            *inputs(facts, files),
            "## How good it is",
            "",
            *figures(facts),
            "## What was checked",
            "",
            "Each file was loaded as above and asked about every image of the test split. It was "
            f"kept because {facts.rule}. The network itself has {facts.top1:.2f} % in float32"
            f"{half}.",
            "",
            *(f"- `{file.name}` ({name}): {file.check}" for name, file in files.items()),
            "",
            "## Where it comes from",
            "",
            *origin(facts),
        ]
    )


def loading(files: Mapping[str, File]) -> list[str]:
    """The lines of each format."""
    return [
        line
        for name, file in files.items()
        for line in (f"{name}, `{file.name}`:", "", "```python", file.how, "```", "")
    ]


def inputs(facts: Facts, files: Mapping[str, File]) -> list[str]:
    """Images and logits."""
    about = facts.about
    H, W = about["network"]["input_size"][1:]
    mean, std = (", ".join(f"{v:g}" for v in about[key]) for key in ("mean", "std"))
    border = "" if about["crop"] == 1 else f", to 1/{about['crop']} of it on each side"
    classes = about["classes"]
    named = json.dumps(classes[:NAMED], ensure_ascii=False)
    more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    return [
        f"`image` is (batch, 3, {H}, {W}), of any batch size:",
        "",
        *(f"- {name}: {file.input}" for name, file in files.items()),
        "",
        f"mean = ({mean}), std = ({std}), of a channel, for pixels of 0 to 1.",
        "",
        f"An image of another size is scaled (bilinear, antialiased) until it covers {H}x{W}"
        f"{border}, and cropped in its centre. This isn't in any file.",
        "",
        f"`logits` is (batch, {len(classes)}), float32; softmax gives probabilities. The classes, "
        "in that order (also in `about.json` and in the files' own metadata):",
        "",
        f"`{named}`{more}",
        "",
    ]


def figures(facts: Facts) -> list[str]:
    """The run's figures on the test split, and what the network costs."""
    results, best = facts.results, facts.about["weights"] == "best"
    mine = "test_best" if best else "test"
    rows = [
        [
            name if key != mine else f"**{name}: these files**",
            *(f"{results[key][what]:.{n}f}" for what, n in (("top1", 2), ("top5", 2))),
            *(f"{results[key][what]:.3f}" for what in ("nll", "ece")),
        ]
        for key, name in ROWS.items()
        if key in results
    ]
    lines = [
        "On the test split, as the run measured it (accuracy in percent, NLL in nats, ECE with 15 "
        "bins):",
        "",
        table(["", "top-1", "top-5", "NLL", "ECE"], rows),
    ]
    if "gain" in results:
        lines.append(
            f"Distillation gains {results['gain']:+.2f} points over the network trained alone "
            "(one seed, last weights).\n"
        )
    parameters, multiply_adds = facts.counts
    lines.append(
        f"It has {parameters:,} parameters and takes {multiply_adds:,} multiply-adds an image."
    )
    return [
        *lines,
        "",
        "One run with one seed: another seed gives other figures. Nothing is known about images "
        "that are unlike the data set's.",
        "",
    ]


def origin(facts: Facts) -> Sequence[str]:
    """All that is needed to train it again."""
    run = facts.run
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [
        f"- command: `{shlex.join(run['command'])}`",
        f"- config hash: `{run['config']}`; the whole config is in `recipe.yaml`",
        f"- loss: `{facts.formula}`",
        f"- training: {facts.solver}, seed {run['seed']}, on {run['device']}",
        f"- with kdframe {run['kdframe']}"
        f"{', commit ' + run['git'] if run['git'] else ''}; Python {run['python']}, {versions}",
        f"- begun {run['start']}",
        "",
    ]
