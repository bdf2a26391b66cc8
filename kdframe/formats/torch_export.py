"""PyTorch's own graph (``.pt2``): loaded by torch alone, and compiled ahead of time by AOTInductor.

See https://docs.pytorch.org/docs/stable/export.html.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from kdframe import writing
from kdframe.formats.base import Deployable, Student

FILE = "model.pt2"
INPUT = ""
ABOUT = "about.json"  # among the archive's extra files


def write(student: Student, folder: Path) -> None:
    """The batch's size stays free."""
    program = program_of(Deployable(student))
    file = io.BytesIO()  # on a full disk torch's own writer ends the process
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(dict(student.about))})
    writing.write(folder / FILE, lambda sink: sink.write(file.getbuffer()))


def program_of(deployable: Deployable) -> torch.export.ExportedProgram:
    """The graph of a batch of any size."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(
            deployable, (deployable.example(),), dynamic_shapes={"image": {0: batch}}
        )


def answers(folder: Path) -> Callable[[Tensor], Tensor]:
    """The graph, run by torch."""
    network: Callable[[Tensor], Tensor] = torch.export.load(folder / FILE).module()
    return network


def how(student: Student) -> str:
    """Torch alone."""
    return (
        "import torch\n"
        'student = torch.export.load("DIR/model.pt2").module()  # always in eval mode\n'
        "logits = student(image)"
    )
