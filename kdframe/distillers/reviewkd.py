"""Knowledge review: Chen et al. 2021, arXiv:2104.09044, as in the authors' code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import Stages, paired, pooled
from kdframe.distillers.ranges import from_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("reviewkd", needs=("teacher_preactivations",))
class ReviewKD(nn.Module):
    """Regresses each of the teacher's maps from the student's map and all deeper ones.

        u_i = ABF_i(f_student,i, u_(i+1)),  from the pooled embedding, a 1x1 map, to stage 1
        L   = sum over levels i of  HCL(out_i(u_i), f_teacher,i)
        HCL = (mse + sum over l in 4, 2, 1 with l < H of  w_l mse of both pooled to l x l)
              / (1 + sum of the w_l used),   w = 1/2, 1/4, 1/8 in the order used

    ABF: a 1x1 convolution and BatchNorm to ``width`` channels (0: as many as the student's
    embedding, 512 at most), u_(i+1) brought to that size, and their sum, weighted at each position
    by the sigmoid of a 1x1 convolution of both; then brought to the teacher's size, by the nearest
    neighbour.  out_i: a 3x3 convolution and BatchNorm.  mse is the mean over all elements.  0 only
    where learning makes every out_i(u_i) the teacher's map: equal networks don't score 0.

    As the authors run CIFAR, f_teacher is before the activation and f_student as the stage hands
    it out, after it.  On ImageNet their code has both after it.

    Raises:
        ValueError: a wrong width or stage, or a batch of one image in training.

    Published: WEIGHT 5 (r56->20 .6, r110->32 1, 32x4->ShuffleNetV2 8) and WARMUP 20, with
    cross_entropy 1.  CIFAR-100: 75.63, 76.12, 74.84, 71.89.
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, stages: Stages = (), width: int = 0
    ) -> None:
        super().__init__()
        from_0(width=width)
        self.stages = stages
        width = width or min(512, student.embedding_size)
        levels = levels_of(student.probe(), teacher.probe(), stages)
        self.fusions = nn.ModuleList(
            ABF(f_student.shape[1], width, f_teacher.shape[1], deepest=i == 0)
            for i, (f_student, f_teacher) in enumerate(levels)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        if self.training and len(student.logits) < 2:
            raise ValueError(
                "reviewkd normalises embeddings over the batch: a batch takes 2 at least, "
                f"not {len(student.logits)}."
            )
        losses = []
        u: Tensor | None = None
        levels = levels_of(student, teacher, self.stages)
        for fuse, (f_student, f_teacher) in zip(self.fusions, levels, strict=True):
            u, out = fuse(f_student, u, f_teacher.shape[2:])
            losses.append(HCL(out, f_teacher))
        return torch.stack(losses).sum()


class ABF(nn.Module):
    """Attention-based fusion of a level's map with what the deeper levels left: u_i and out_i."""

    def __init__(self, student: int, width: int, teacher: int, *, deepest: bool) -> None:
        super().__init__()
        self.enter = normalised(nn.Conv2d(student, width, kernel_size=1, bias=False))
        self.leave = normalised(nn.Conv2d(width, teacher, kernel_size=3, padding=1, bias=False))
        self.attention = None if deepest else nn.Conv2d(2 * width, 2, kernel_size=1)

    def forward(
        self, f_student: Tensor, deeper: Tensor | None, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        u = self.enter(f_student)
        if self.attention is not None and deeper is not None:
            deeper = resized(deeper, u.shape[2:])
            a = self.attention(torch.cat([u, deeper], dim=1)).sigmoid()
            u = a[:, :1] * u + a[:, 1:] * deeper
        u = resized(u, size)
        return u, self.leave(u)


def normalised(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution and BatchNorm."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


def resized(u: Tensor, size: torch.Size) -> Tensor:
    """The map itself where it has that size already."""
    return u if u.shape[2:] == size else F.interpolate(u, list(size), mode="nearest")


def HCL(student: Tensor, teacher: Tensor) -> Tensor:
    """The hierarchical context loss of two maps (B, C, H, W)."""
    loss, total, w = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(teacher.shape[2:]):
            w /= 2
            loss = loss + w * F.mse_loss(pooled(student, side, side), pooled(teacher, side, side))
            total += w
    return loss / total


def levels_of(student: Output, teacher: Output, stages: Stages) -> list[tuple[Tensor, Tensor]]:
    """Both networks' maps, from the embedding to the shallowest stage."""
    embeddings = student.embedding[:, :, None, None], teacher.embedding[:, :, None, None]
    return [embeddings, *reversed(paired(student, teacher, stages))]
