"""One for all, at every stage: Hao et al. 2023, arXiv:2310.19444, after their code."""

import itertools

import torch
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.ofa import ofa
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("ofa_stages")
class OFAStages(nn.Module):
    """Teaches the student's stages by heads of their own: any network can teach any other so.

        L = sum over stages i of  ofa(head_i(f_i), z_teacher)

    with ``ofa`` the mean over images of -sum_k ((p_k + [k = y])^eps - [k = y]) log q_k, in nats, p
    and q the teacher's and the head's probabilities at ``temperature``, without its square.  For
    eps = 1 that is a cross entropy, least where q = p: the teacher's entropy.  The term
    ``ofa`` is the same on the student's own logits: the paper has both.

    A head halves its map to the last stage's size by pairs of separable convolutions, each but the
    last with the channels doubled, the last to the wider of the networks' embeddings; then the
    mean and a Linear.  A map of the last stage's size has a 1x1 convolution instead of pairs.  So
    the authors do for a CNN; to a transformer they give patch merging and attention, here it has
    the same.  Heads are not part of what is deployed.

    Raises:
        ValueError: a stage that the student doesn't have, an eps or temperature not above 0.

    Published: 1 beside cross_entropy 1 and ofa 1, at stages 1 to 4; eps is chosen by pair, 1.5
    for DeiT-T -> ResNet18.
    """

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        stages: tuple[int, ...] = (),
        eps: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        above_0(eps=eps, temperature=temperature)
        self.stages, self.eps, self.T = stages, eps, temperature
        width = max(student.embedding_size, teacher.embedding_size)
        shapes = [student.shapes[i] for i in student.stages_of(stages)]
        self.heads = nn.ModuleList(
            head(shape, student.shapes[-1], width, teacher.num_classes) for shape in shapes
        )
        self.heads.apply(draw)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = [
            ofa(student._replace(logits=head(f)), teacher, batch, eps=self.eps, temperature=self.T)
            for head, f in zip(self.heads, student.maps(self.stages), strict=True)
        ]
        return torch.stack(losses).sum()


Shape = tuple[int, int, int]


def head(shape: Shape, last: Shape, width: int, classes: int) -> nn.Sequential:
    """From a map of ``shape`` (C, H, W) to logits, by way of ``last``'s size."""
    channels, height, across = shape
    widths: list[int] = []
    while height > last[1] or across > last[2]:
        widths.append(channels * 2 ** len(widths))
        height, across = (height + 1) // 2, (across + 1) // 2
    layers: list[nn.Module] = [halved(*pair) for pair in itertools.pairwise([*widths, width])]
    layers = layers or [nn.Conv2d(channels, width, kernel_size=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def halved(before: int, after: int) -> nn.Sequential:
    """Two separable convolutions of 3x3, the first of stride 2."""
    return nn.Sequential(*separable(before, before, stride=2), *separable(before, after, stride=1))


def separable(before: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution a channel and one across them, BatchNorm and ReLU."""
    return (
        nn.Conv2d(before, before, 3, stride, padding=1, groups=before, bias=False),
        nn.Conv2d(before, after, kernel_size=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def draw(module: nn.Module) -> None:
    """Weights as the authors draw them."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
