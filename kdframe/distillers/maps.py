"""What terms on feature maps share: stages in pairs, and maps brought to one size and width."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output

# 2 is stage 2 of both networks; (2, 5) the student's stage 2 and the teacher's stage 5
Stages = tuple[int | tuple[int, int], ...]


def paired(student: Output, teacher: Output, stages: Stages) -> list[tuple[Tensor, Tensor]]:
    """The student's and the teacher's map of each of these stages.

    Raises:
        ValueError: a stage that a network doesn't have, or ``()`` where one has more of them.
    """
    mine, theirs = sides(stages)
    maps = student.maps(mine), teacher.maps(theirs)
    if len(maps[0]) != len(maps[1]):
        raise ValueError(
            f"stages=() is {len(maps[0])} stages of the student and {len(maps[1])} of the "
            "teacher: name those to compare (kdframe taps proposes some)."
        )
    return list(zip(*maps, strict=True))


def sides(stages: Stages) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The student's and the teacher's numbers of these stages."""
    mine, theirs = (tuple(s if isinstance(s, int) else s[i] for s in stages) for i in (0, 1))
    return mine, theirs


def adapters(
    student: Backbone,
    teacher: Backbone,
    stages: Stages,
    bias: bool = True,
    everywhere: bool = False,
) -> nn.ModuleList:
    """For each of these stages a learned 1x1 convolution from the student's channels to the
    teacher's, where they differ or ``everywhere`` (ValueError as in ``paired``).
    """
    channels = [
        (f_student.shape[1], f_teacher.shape[1])
        for f_student, f_teacher in paired(student.probe(), teacher.probe(), stages)
    ]
    return nn.ModuleList(
        nn.Conv2d(mine, theirs, kernel_size=1, bias=bias)
        if everywhere or mine != theirs
        else nn.Identity()
        for mine, theirs in channels
    )


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, the larger average-pooled to the smaller's height and width."""
    height, width = (min(student.shape[i], teacher.shape[i]) for i in (2, 3))
    return pooled(student, height, width), pooled(teacher, height, width)


def pooled(feature: Tensor, height: int, width: int) -> Tensor:
    """The map itself where it has that size already."""
    H, W = feature.shape[2:]
    if (height, width) == (H, W):
        return feature
    if H % height == 0 and W % width == 0:  # the same, and deterministic on CUDA
        return F.avg_pool2d(feature, (H // height, W // width))
    return F.adaptive_avg_pool2d(feature, (height, width))


def connector(student: Tensor, teacher: Tensor) -> nn.Sequential:
    """From maps of the student's channels to the teacher's: a 1x1 convolution and BatchNorm."""
    conv = nn.Conv2d(student.shape[1], teacher.shape[1], kernel_size=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return nn.Sequential(conv, nn.BatchNorm2d(teacher.shape[1]))
