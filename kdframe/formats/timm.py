"""A folder that ``timm.create_model("local-dir:...")`` reads; kdframe isn't needed there.

``config.json`` is as Hugging Face's hub has it, so that the folder can be pushed there as it is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from kdframe import checkpoint, writing
from kdframe.formats.base import Refused, Student

FILE = "model.safetensors"
CONFIG = "config.json"
INPUT = "normalised"
ARGUMENTS = {"image_size": "img_size", "patch_size": "patch_size"}  # kdframe's option: timm's
KEPT = ("fixed_input_size", "first_conv", "classifier")  # of the architecture, whatever its weights
OTHERS = "safetensors, onnx and torch_export hold it"


def write(student: Student, folder: Path) -> None:
    """Writes config.json and the tensors under timm's names.

    Raises:
        Refused: timm by itself can't build this network.
    """
    network: Any = student.backbone.network
    name = architecture(student)
    arguments = model_args(student)
    refuse_other_shapes(network, name, arguments)
    config = {
        "architecture": name,
        "num_classes": len(student.about["classes"]),
        "num_features": network.num_features,
        "label_names": list(student.about["classes"]),
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": list(student.backbone.input_size),
            "mean": list(student.about["mean"]),
            "std": list(student.about["std"]),
            "crop_pct": student.about["crop"],
            "crop_mode": "center",
            "interpolation": "bilinear",
            "custom_load": False,  # the tensors are named as timm names them
            **{key: network.pretrained_cfg[key] for key in KEPT if key in network.pretrained_cfg},
        },
    }
    writing.write_json(folder / CONFIG, config)
    checkpoint.save_weights(folder / FILE, network.state_dict(), student.about)


def architecture(student: Student) -> str:
    """The name by which timm alone, without kdframe, knows the network.

    Raises:
        Refused: it doesn't.
    """
    parts = student.about["network"]
    part = parts["student"]
    if "term" in parts:
        raise Refused(
            f"--format timm: what {parts['term']['name']} deploys (the student, a projector and "
            f"the teacher's classifier) isn't a network of timm; {OTHERS}."
        )
    model: str = part["options"].get("model", part["name"])
    name = model.partition(".")[0]  # the tag names weights, and the network is filled
    network: Any = student.backbone.network
    itself = getattr(network, "pretrained_cfg", {}).get("architecture") == name
    if not itself or not timm.models.model_entrypoint(name).__module__.startswith("timm."):
        raise Refused(
            f"--format timm: {name} is kdframe's network, and timm doesn't know it; {OTHERS}."
        )
    return name


def model_args(student: Student) -> dict[str, Any]:
    """What timm's constructor needs to know, beyond the number of classes."""
    options = student.about["network"]["student"]["options"]
    return {theirs: options[ours] for ours, theirs in ARGUMENTS.items() if options.get(ours)}


def refuse_other_shapes(network: nn.Module, name: str, arguments: dict[str, Any]) -> None:
    """Raises Refused where timm's own network has tensors of other shapes."""
    classes: int = network.num_classes  # type: ignore[assignment]
    own = timm.create_model(name, num_classes=classes, **arguments)
    theirs = {key: tuple(tensor.shape) for key, tensor in own.state_dict().items()}
    for key, tensor in network.state_dict().items():
        if theirs.get(key) != tuple(tensor.shape):
            raise Refused(
                f"--format timm: timm builds {name} with {key} of {theirs.get(key)}, and this "
                f"student's is of {tuple(tensor.shape)}: timm has no option for a stem such as "
                f"SMALL_INPUT's; {OTHERS}."
            )


def answers(folder: Path) -> Callable[[Tensor], Tensor]:
    """What timm builds."""
    network: Callable[[Tensor], Tensor] = timm.create_model(
        f"local-dir:{folder}", pretrained=True
    ).eval()
    return network


def how(student: Student) -> str:
    """Without kdframe."""
    return (
        "import timm\n"
        'student = timm.create_model("local-dir:DIR", pretrained=True).eval()\n'
        "logits = student(image)  # timm.data.resolve_model_data_config(student) normalises"
    )
