"""An ONNX graph, for onnxruntime and whatever else reads one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

from kdframe.formats.base import Deployable, Student
from kdframe.formats.torch_export import program_of

FILE = "model.onnx"
INPUT = ""
OPSET = 20


def write(student: Student, folder: Path) -> None:
    """One file with its weights; "image" (batch, 3, H, W) goes in, "logits" (batch, K) come out."""
    deployable = Deployable(student)
    program: Any = torch.onnx.export(
        program_of(deployable),
        input_names=["image"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    program.save(folder / FILE, external_data=False)
    model = onnx.load(folder / FILE)
    model.producer_name = "kdframe"
    for key, value in student.about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model)
    onnx.save(model, folder / FILE)


def answers(folder: Path) -> Callable[[Tensor], Tensor]:
    """The graph, run by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])

    def answer(image: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        return torch.from_numpy(logits)

    return answer


def how(student: Student) -> str:
    """Without torch; ``image`` is a numpy array."""
    return (
        "import onnxruntime\n"
        'student = onnxruntime.InferenceSession("DIR/model.onnx")\n'
        '(logits,) = student.run(None, {"image": image})  # a numpy array'
    )
