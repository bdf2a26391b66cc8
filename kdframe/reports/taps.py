"""Where a term can tap two networks: their stages side by side, and which go together."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor

from kdframe.backbones import Backbone
from kdframe.reports.complexity import table

Pairs = list[tuple[int, int]]  # (the student's stage, the teacher's)


class Tap(NamedTuple):
    """One stage."""

    shape: tuple[int, int, int]  # (C, H, W)
    stride: float  # the image's height over the map's
    parameters: int  # those that its map depends on, and no shallower stage's does


@dataclass(frozen=True)
class Taps:
    """A network's stages, shallow to deep; all parameters are in one of them or in the rest."""

    stages: list[Tap]
    head: int  # parameters that only the logits depend on
    unused: int  # parameters that neither a stage nor the logits depend on

    @property
    def parameters(self) -> int:
        return sum(tap.parameters for tap in self.stages) + self.head + self.unused


def taps(backbone: Backbone) -> Taps:
    """By a pass of a copy, in eval mode; what depends on what is read off autograd's graph."""
    backbone = copy.deepcopy(backbone).eval().requires_grad_(True)
    image = next(backbone.parameters()).new_zeros(1, *backbone.input_size)
    output = backbone(image)
    visited: set[Any] = set()
    stages = [
        Tap(
            (f.shape[1], f.shape[2], f.shape[3]),
            image.shape[2] / f.shape[2],
            new_parameters(f, visited),
        )
        for f in output.features
    ]
    head = new_parameters(output.logits, visited)
    known = head + sum(tap.parameters for tap in stages)
    return Taps(stages, head, sum(p.numel() for p in backbone.parameters()) - known)


def new_parameters(result: Tensor, visited: set[Any]) -> int:
    """How many parameters ``result`` depends on by ways that aren't ``visited``; now they are."""
    count, waiting = 0, [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            if hasattr(node, "variable"):  # a leaf
                count += node.variable.numel()
            waiting.extend(before for before, _ in node.next_functions)
    return count


def proposed(student: Taps, teacher: Taps) -> Pairs:
    """As many pairs as the network of fewer stages has beyond the stem, each deeper than the last.

    Of all such pairings, that of the least difference: networks of equally many stages go stage by
    stage; else maps of like resolution go together, and where that decides nothing or a network
    has the same resolution everywhere (a ViT), stages at the same part of the depth.
    """
    swapped = len(student.stages) > len(teacher.stages)
    fewer, more = (teacher, student) if swapped else (student, teacher)
    by_resolution = not (isotropic(student) or isotropic(teacher))
    # over j, the best pairing so far whose last partner lies before j
    best: list[tuple[float, float, Pairs]] = [(0.0, 0.0, []) for _ in range(len(more.stages) + 1)]
    for i in range(1, len(fewer.stages)):
        longer = [(math.inf, math.inf, list[tuple[int, int]]())]
        longer *= i + 1  # i pairs need i partners, from 1 on
        for j in range(i, len(more.stages)):
            octaves, depth, pairs = best[j]
            if by_resolution:
                octaves += abs(math.log2(fewer.stages[i].stride / more.stages[j].stride))
            depth += abs(depth_of(fewer, i) - depth_of(more, j))
            longer.append(min(longer[-1], (octaves, depth, [*pairs, (i, j)])))
        best = longer
    pairs = best[-1][2]
    return [(j, i) for i, j in pairs] if swapped else pairs


def isotropic(network: Taps) -> bool:
    """Whether every stage has the same resolution, as a ViT's blocks."""
    return len({tap.stride for tap in network.stages}) == 1


def depth_of(network: Taps, i: int) -> float:
    """Where stage i ends, from 0 to 1 of the network; stage 0 of a ViT is a block, and no stem."""
    count = len(network.stages)
    return (i + 1) / count if isotropic(network) else i / (count - 1)


def as_yaml(pairs: Pairs) -> str:
    """A term on these stages, to paste into a config."""
    stages = ", ".join(str(i) if i == j else f"[{i}, {j}]" for i, j in pairs)
    return f"LOSS: {{feature: {{STAGES: [{stages}]}}}}"


def as_markdown(networks: Mapping[str, Taps], image: tuple[int, int, int]) -> str:
    """A table of the stages of "student" and "teacher", their sums, and the pairs proposed."""
    rows = [
        [str(number), *(cell for tap in row for cell in cells(tap))]
        for number, row in enumerate(zip_longest(*(n.stages for n in networks.values())))
    ]
    sums = {
        "head": [n.head for n in networks.values()],
        "unused": [n.unused for n in networks.values()],
        "total": [n.parameters for n in networks.values()],
    }
    for name, counts in sums.items():
        if any(counts):
            rows.append([name, *(cell for count in counts for cell in ("", "", f"{count:,}"))])
    header = ["stage", *(word for name in networks for word in (name, "stride", "parameters"))]
    head = (
        f"# Stages\n\nOf one image of {'x'.join(map(str, image))}: channels, height and width of "
        "a stage's map; stride is the\nimage's height over the map's.  A stage's parameters are "
        "those that its map depends on and no\nshallower stage's does; the head's, those that "
        "only the logits depend on.\n"
    )
    return "\n".join([head, table(header, rows), *advice(networks)])


def cells(tap: Tap | None) -> list[str]:
    """A stage's three cells."""
    if tap is None:
        return ["", "", ""]
    return ["x".join(map(str, tap.shape)), f"{tap.stride:.4g}", f"{tap.parameters:,}"]


def advice(networks: Mapping[str, Taps]) -> Sequence[str]:
    """The pairs of two networks, with the config's words for them."""
    if "teacher" not in networks:
        return []
    pairs = proposed(networks["student"], networks["teacher"])
    if not pairs:
        return ["No pairs: a network has no stage beyond the stem.\n"]
    head = "Pairs that go together, the student's stage and the teacher's (one number for both):\n"
    return [head, f"    {as_yaml(pairs)}\n"]
