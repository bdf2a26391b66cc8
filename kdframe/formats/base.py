"""The contract of formats: a student is written to a file, and the file is asked as it will be."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone

INPUTS = {  # what a graph's images are
    "unit": "RGB, float32 from 0 to 1 (a pixel / 255); the normalisation is in the graph",
    "uint8": "RGB, uint8 from 0 to 255; division and normalisation are in the graph",
    "normalised": "RGB, float32, normalised by the caller: (pixel / 255 - mean) / std",
}


class Refused(ValueError):
    """This student, or this place, isn't one for an export: the user's to change."""

    exit_code = 2


@dataclass(frozen=True)
class Student:
    """A network that leaves home.

    Attributes:
        backbone: in eval mode, float32, on the CPU.
        about: what the files say about themselves, JSON-able: "classes" (K names in the order of
            the logits), "mean" and "std" (of a channel, for pixels in 0..1), "network" (the parts
            that ``formats.safetensors.load`` builds it from), "crop" (the part of an image's
            shorter side that is seen), and where it is from.
        input: what a graph takes, one of ``INPUTS``.
    """

    backbone: Backbone
    about: Mapping[str, Any]
    input: str = "unit"


class Format(Protocol):
    """A module of this folder."""

    FILE: str  # the file's name
    INPUT: str  # what its images are, of ``INPUTS``; empty where ``Student.input`` says it

    def write(self, student: Student, folder: Path) -> None:
        """Writes the file (and what belongs to it) to an existing folder.

        Raises:
            Refused: the format can't hold this student.
        """

    def answers(self, folder: Path) -> Callable[[Tensor], Tensor]:
        """The file, loaded as its user will: images (B, 3, H, W) -> logits (B, K) on the CPU."""

    def how(self, student: Student) -> str:
        """Three lines of Python that load it and ask it about ``image``."""


def taken(image: Tensor, kind: str, about: Mapping[str, Any]) -> Tensor:
    """uint8 images (B, 3, H, W) as an input of that kind takes them."""
    if kind == "uint8":
        return image
    unit = image.float().div(255)
    return normalised(unit, about) if kind == "normalised" else unit


def normalised(unit: Tensor, about: Mapping[str, Any]) -> Tensor:
    """Images (B, 3, H, W) of 0..1 as the network takes them: ``Loader.normalised``'s arithmetic."""
    mean, std = (torch.tensor(about[key]).view(3, 1, 1) for key in ("mean", "std"))
    return unit.sub(mean).div(std)


class Deployable(nn.Module):
    """Images as ``student.input`` says -> logits; what is traced for a graph."""

    mean: Tensor
    std: Tensor

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(student.backbone)
        self.input = student.input
        for key in ("mean", "std"):
            channel = torch.tensor(student.about[key]).view(3, 1, 1)
            self.register_buffer(key, channel, persistent=False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        if self.input == "uint8":
            image = image.float() / 255
        if self.input != "normalised":
            image = (image - self.mean) / self.std
        logits: Tensor = self.backbone(image).logits
        return logits

    def example(self) -> Tensor:
        """Two images, for a trace whose batch isn't taken for a constant."""
        kind = torch.uint8 if self.input == "uint8" else torch.float32
        return torch.zeros(2, *self.backbone.input_size, dtype=kind)
