"""The tensors alone, with the parts that the network is built from: for use with kdframe."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kdframe import checkpoint
from kdframe.backbones import Backbone
from kdframe.formats.base import Student
from kdframe.registry import BACKBONES, DISTILLERS

FILE = "model.safetensors"
INPUT = "normalised"


def write(student: Student, folder: Path) -> None:
    """The names of the tensors are the network's."""
    checkpoint.save_weights(folder / FILE, student.backbone.network.state_dict(), student.about)


def load(folder: str | Path) -> tuple[Backbone, dict[str, Any]]:
    """An exported student in eval mode, and what it says about itself.

    Raises:
        ValueError: the file isn't an export, or doesn't fit the network that it names.
        LookupError: a part of it isn't installed.
    """
    path = Path(folder) / FILE
    weights, about = checkpoint.load_weights(path)
    if "network" not in about:
        raise ValueError(f"{path} doesn't say what network it is of.")
    backbone = build(about["network"], len(about["classes"]))
    checkpoint.fit(weights, backbone.network, path)
    return backbone.eval(), about


def build(network: Mapping[str, Any], classes: int) -> Backbone:
    """A network of its parts' names and options: the student, or what a term makes of it.

    ``network`` has "student" and "input_size", and "term" and "teacher" where there is a term.
    """
    student, *teacher = (
        BACKBONES[part["name"]](classes, **options_of(part))
        for part in (network[key] for key in ("student", "teacher") if key in network)
    )
    for backbone in (student, *teacher):
        backbone.input_size = tuple(network["input_size"])
    if not teacher:
        return as_backbone(student)
    term = network["term"]
    module = DISTILLERS[term["name"]](student, teacher[0], **options_of(term))
    return as_backbone(module.deployed(student))


def as_backbone(built: Backbone) -> Backbone:
    """A part's result under its type, which a registry doesn't know."""
    return built


def options_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part's options after JSON, which has lists for tuples."""
    return {key: as_tuple(value) for key, value in part["options"].items()}


def as_tuple(value: Any) -> Any:
    """Lists, nested too, as tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def answers(folder: Path) -> Callable[[Tensor], Tensor]:
    """The network of kdframe."""
    backbone, _ = load(folder)
    return lambda image: backbone(image).logits


def how(student: Student) -> str:
    """By the parts of kdframe."""
    modules = "".join(f"import {name}\n" for name in student.about.get("modules", ()))
    return (
        f"{modules}from kdframe.formats import safetensors\n"
        'student, about = safetensors.load("DIR")\n'
        "logits = student(image).logits"
    )
