"""What terms on pairs of images share: rows of length 1, and the distances of every two."""

import torch
from torch import Tensor


def units(rows: Tensor, dim: int = 1, eps: float = 0.0) -> Tensor:
    """Rows divided by their Euclidean norm + eps; one of zeros stays so, and has no slope.

    ``F.normalize`` gives it a slope of 1e12, which a single dead image hands to every weight.
    """
    norms = torch.linalg.vector_norm(rows, dim=dim, keepdim=True)
    return rows / torch.where(norms > 1e-12, norms + eps, torch.inf)


def squared_distances(rows: Tensor) -> Tensor:
    """||x_i - x_j||^2 of rows (B, C), as (B, B) with exact zeros on the diagonal.

    By products of the centred rows, in B^2 of memory.  What rounding can't tell from 0 is 0: in
    float32 that is a pair nearer than about 2e-3 of its distance from the rows' mean.
    """
    x = rows - rows.mean(dim=0)
    G = x @ x.T
    norms = G.diagonal()
    sums = norms[:, None] + norms
    squares = sums - 2 * G
    return torch.where(squares > 16 * torch.finfo(G.dtype).eps * sums, squares, 0)
