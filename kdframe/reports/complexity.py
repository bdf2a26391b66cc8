"""What a network costs: parameters, multiply-adds and activations, by fvcore."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone

with warnings.catch_warnings():  # fvcore scripts a loss of its own while it is imported
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)
    from fvcore.nn import (
        ActivationCountAnalysis,
        FlopCountAnalysis,
        parameter_count,
        parameter_count_table,
    )

TOTALS = ("parameters", "multiply_adds", "activations")


@dataclass(frozen=True)
class Stage:
    """A part of a network that is called on its own."""

    name: str
    shape: tuple[int, ...]  # of its output, for a batch of one
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Complexity:
    """The costs of a network in eval mode for one image.

    ``multiply_adds`` is what fvcore calls flops: a multiplication with its addition is one.
    ``activations`` are the numbers that convolutions and matrix products put out.
    """

    input_size: tuple[int, int, int]
    parameters: int
    multiply_adds: int
    activations: int
    stages: list[Stage]  # add up to the totals
    unsupported: dict[str, int]  # operators that fvcore counts as nothing, and how many there are
    parameter_table: str  # fvcore's, as markdown


def complexity(backbone: Backbone) -> Complexity:
    """Counts on a copy; the network itself is not touched."""
    backbone = copy.deepcopy(backbone).eval()
    for module in backbone.modules():
        if hasattr(module, "fused_attn"):  # timm's; fvcore counts nothing in a fused attention
            module.fused_attn = False  # type: ignore[assignment]
    image = next(backbone.parameters()).new_zeros(1, *backbone.input_size)
    flops, activations = (
        analysis(backbone, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        for analysis in (FlopCountAnalysis, ActivationCountAnalysis)
    )
    parameters = parameter_count(backbone)
    multiply_adds = {name: int(count) for name, count in flops.by_module().items()}
    stages = [
        Stage(name, shape, parameters[f"network.{name}"], multiply_adds.get(f"network.{name}", 0))
        for name, shape in outermost(backbone, image).items()
    ]
    rest = Stage(
        "(between them)",
        (),
        parameters[""] - sum(stage.parameters for stage in stages),
        multiply_adds[""] - sum(stage.multiply_adds for stage in stages),
    )
    return Complexity(
        input_size=backbone.input_size,
        parameters=parameters[""],
        multiply_adds=multiply_adds[""],
        activations=int(activations.total()),
        stages=[s for s in (*stages, rest) if s.parameters or s.multiply_adds],
        unsupported=dict(sorted(flops.unsupported_ops().items())),
        parameter_table=parameter_count_table(backbone.network, max_depth=2),
    )


def outermost(backbone: Backbone, image: Tensor) -> dict[str, tuple[int, ...]]:
    """Names in ``network`` and output shapes of the modules that no other called module holds.

    The network itself isn't one of them.  A container that is only iterated over is not called,
    and its members are named instead.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

        module.register_forward_hook(hook)

    for name, module in backbone.network.named_modules():
        if name:
            note(name, module)
    with torch.no_grad():
        backbone(image)
    return {
        name: shape
        for name, shape in shapes.items()
        if not any(name.startswith(f"{other}.") for other in shapes)
    }


def as_dict(counts: Mapping[str, Complexity]) -> dict[str, Any]:
    """What JSON can hold of "student" and "teacher"; "ratio" is teacher over student."""
    report: dict[str, Any] = {name: asdict(count) for name, count in counts.items()}
    for count in report.values():
        del count["parameter_table"]
    if "teacher" in counts:
        report["ratio"] = {
            total: getattr(counts["teacher"], total) / getattr(counts["student"], total)
            for total in TOTALS
        }
    return report


def as_markdown(counts: Mapping[str, Complexity]) -> str:
    """The same as a page: totals, then each network's stages and parameters."""
    ratio = as_dict(counts).get("ratio", {})
    rows = [
        [
            total.replace("_", "-"),
            *(f"{getattr(count, total):,}" for count in counts.values()),
            *([f"{ratio[total]:.2f}"] if ratio else []),
        ]
        for total in TOTALS
    ]
    header = ["", *counts, *(["teacher / student"] if ratio else [])]
    size = "x".join(map(str, counts["student"].input_size))
    head = (
        f"# Complexity\n\nOne image of {size} in eval mode, counted by fvcore.  A multiply-add "
        "(MAC) is a\nmultiplication with its addition; two FLOPs in other counts.  Activations "
        "are the numbers\nthat convolutions and matrix products put out.\n"
    )
    pages = [page(name, count) for name, count in counts.items()]
    return "\n".join([head, table(header, rows), *pages])


def page(name: str, count: Complexity) -> str:
    """A network's stages and parameters."""
    rows = [
        [s.name, "x".join(map(str, s.shape[1:])), f"{s.parameters:,}", f"{s.multiply_adds:,}"]
        for s in count.stages
    ]
    missed = ", ".join(f"{operator} ({n})" for operator, n in count.unsupported.items())
    return (
        f"## {name.capitalize()}\n\n"
        f"{table(['stage', 'output', 'parameters', 'multiply-adds'], rows)}\n"
        f"Operators counted as nothing: {missed or 'none'}.\n\n"
        f"{count.parameter_table}\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table, its first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (header, rule, *rows):
        right = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([first.ljust(widths[0]), *right])} |\n")
    return "".join(lines)
