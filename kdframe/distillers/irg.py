"""Instance relationship graph: Liu et al. 2019, CVPR 2019, section 3 (from memory)."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.distillers.logits import logits_of
from kdframe.distillers.maps import Stages, paired, pooled, same_size
from kdframe.distillers.ranges import at_least, from_0
from kdframe.distillers.relations import squared_distances
from kdframe.registry import DISTILLERS


@DISTILLERS.register("irg", needs=("global_batch",))
def irg(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    stages: Stages = (-2, -1),
    vertices: float = 0.1,
    edges: float = 5.0,
    transformation: float = 5.0,
) -> Tensor:
    """Matches a graph of the batch: its images, their distances, and how stages move them.

        A  = ||f_i - f_j||^2 for images i and j, divided by the largest of the batch
        M  = ||f_i - f'_i||^2 for image i at a stage and at the next, divided by the largest
        L  = vertices mean( (z_student - z_teacher)^2 )
           + edges mean over the stages and the embedding of  mean( (A_student - A_teacher)^2 )
           + transformation mean over pairs of stages of  mean( (M_student - M_teacher)^2 )

    z are the logits, f a flattened map.  0 for equal outputs; A and M don't know a scale.  For M
    the larger map is average-pooled, and neighbouring channels of the wider are averaged.

    The form and the weights are those of the most used public code.  The authors' own (Caffe)
    pools every f to its channels, takes M from the first to the last block of a stage, where
    channels are alike, holds the largest fixed in the backward pass, and weighs .005 sum of
    squares / 2B: at B = 64 about .16 for an A and .0025 for an M in the scale used here.

    Published: the defaults (of that code), WEIGHT 1 beside cross_entropy 1.
    """
    at_least(2, student)
    from_0(vertices=vertices, edges=edges, transformation=transformation)
    maps = paired(student, teacher, stages)
    if len(maps) < 2:
        raise ValueError(f"stages takes two stages at least, not {stages}.")
    pairs = [(student.embedding, teacher.embedding), *maps]
    nodes = [F.mse_loss(relation(mine), relation(theirs)) for mine, theirs in pairs]
    moves = [
        F.mse_loss(moved(mine, mine_next), moved(theirs, theirs_next))
        for (mine, theirs), (mine_next, theirs_next) in itertools.pairwise(maps)
    ]
    return (
        vertices * F.mse_loss(*logits_of(student, teacher))
        + edges * torch.stack(nodes).mean()
        + transformation * torch.stack(moves).mean()
    )


def relation(f: Tensor) -> Tensor:
    """A (B, B)."""
    return to_largest(squared_distances(f.flatten(1)))


def moved(f: Tensor, after: Tensor) -> Tensor:
    """M (B,)."""
    f, after = same_size(f, after)
    C = min(f.shape[1], after.shape[1])
    rows = [pooled(x.flatten(2)[:, None], C, x[0, 0].numel()) for x in (f, after)]
    return to_largest((rows[0] - rows[1]).square().flatten(1).sum(dim=1))


def to_largest(squares: Tensor) -> Tensor:
    """Squares in units of their largest."""
    return squares / squares.amax().clamp_min(1e-12)
