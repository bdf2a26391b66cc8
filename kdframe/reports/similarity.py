"""How alike two networks are: in what they say, in how they rank, in what their stages hold.

Nothing here needs a config or a run: tensors in, numbers out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PAIRS = 2**22  # comparisons of classes that are in memory at once
LEAST = 4  # images, for an unbiased HSIC
ROUNDING = 1e-12  # of the mean square of inner products


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of the same N images seen by two layers: Kornblith et al. 2019, arXiv:1905.00414.

        CKA = ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F),  columns centred,  0..1

    Everything after the first dimension is a feature: x (N, ...), y (N, ...).  It is computed on
    N x N matrices, so wide maps cost no more memory than they take themselves.  With fewer images
    than features it is biased upwards; :class:`StageCKA` isn't.

    Raises:
        ValueError: other numbers of images, or a layer that says the same of each.
    """
    if len(x) != len(y):
        raise ValueError(f"cka takes the same images twice, not {len(x)} and {len(y)}.")
    K, L = centred(gram(x)), centred(gram(y))
    size = K.norm() * L.norm()
    if size == 0:
        raise ValueError("cka takes layers that tell images apart; one says the same of each.")
    return float((K * L).sum() / size)


def gram(x: Tensor) -> Tensor:
    """Inner products of all images (N, N), in float64 of features in float32 at least."""
    rows = x.flatten(1)
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    return (rows @ rows.T).double()


def centred(K: Tensor) -> Tensor:
    """A Gram matrix of centred features."""
    mean = K.mean(dim=0, keepdim=True)
    return K - mean - mean.T + K.mean()


def hsic(K: Tensor, L: Tensor) -> Tensor:
    """The unbiased HSIC of two Gram matrices (n, n): Song et al. 2012, equation 5.

        1/(n(n-3)) [ tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'K L1 ],  diagonals 0

    It may fall a little below 0 where nothing is shared.

    Raises:
        ValueError: fewer than 4 images.
    """
    n = len(K)
    if n < LEAST:
        raise ValueError(f"an unbiased HSIC takes {LEAST} images or more, not {n}.")
    K, L = (M - M.diag().diag() for M in (K, L))
    k, l = K.sum(dim=0), L.sum(dim=0)
    apart = k.sum() * l.sum() / ((n - 1) * (n - 2))
    return ((K * L).sum() + apart - 2 / (n - 2) * (k @ l)) / (n * (n - 3))


def own_hsic(K: Tensor) -> Tensor:
    """The HSIC of a Gram matrix with itself; 0 where that is what float32 rounds away."""
    found = hsic(K, K)
    return torch.where(found > ROUNDING * K.square().mean(), found, 0.0)


class StageCKA:
    """Linear CKA of every stage of one network with every stage of another, batch by batch.

    The minibatch estimate of Nguyen, Raghu and Kornblith 2021, arXiv:2010.15327, section 3: the
    mean of unbiased HSICs over batches, whose value doesn't depend on the batches' size.  Batches
    must be drawn at random: sorted by class, each would show a class's inside alone.
    """

    def __init__(self) -> None:
        self.cross: Tensor | float = 0.0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0
        self.images = 0

    def add(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """A batch's features, (B, ...) a stage; a batch of fewer than 4 images says nothing."""
        if len(first[0]) < LEAST:
            return
        K, L = [gram(x) for x in first], [gram(x) for x in second]
        self.cross += torch.stack([torch.stack([hsic(k, l) for l in L]) for k in K]).cpu()
        self.first += torch.stack([own_hsic(k) for k in K]).cpu()
        self.second += torch.stack([own_hsic(l) for l in L]).cpu()
        self.images += len(first[0])

    def result(self) -> Tensor:
        """(stages of the first, stages of the second); nan where a stage tells no images apart.

        Raises:
            ValueError: no batch of 4 images or more was added.
        """
        if not isinstance(self.cross, Tensor):
            raise ValueError(f"StageCKA takes a batch of {LEAST} images or more first.")
        first, second = torch.as_tensor(self.first), torch.as_tensor(self.second)
        value = self.cross / (first[:, None] * second).clamp(min=0).sqrt()
        return torch.where(value.isfinite(), value, torch.nan)


def agreement(student: Tensor, teacher: Tensor) -> float:
    """The percentage of images on which logits (N, K) name the same class."""
    return 100 * float((student.argmax(dim=1) == teacher.argmax(dim=1)).double().mean())


def divergence(student: Tensor, teacher: Tensor) -> float:
    """KL(p_teacher || p_student) of logits (N, K), the mean over images in nats, at T = 1."""
    p, q = (F.log_softmax(z.double(), dim=1) for z in (teacher, student))
    return float(F.kl_div(q, p, log_target=True, reduction="batchmean"))


def rank_agreement(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """How far two networks agree in the order of the classes: Kendall's tau-b, Spearman's rho.

    Of logits (N, K) for each image, then the mean over images; -1..1.  Ties share their rank.  An
    image on which a network says the same of every class counts 0.

    Raises:
        ValueError: fewer than two classes.
    """
    images, K = student.shape
    if K < 2:
        raise ValueError(f"ranks take two classes or more, not {K}.")
    tau, rho = 0.0, 0.0
    rows = max(1, PAIRS // K**2)
    for a, b in zip(torch.split(student, rows), torch.split(teacher, rows), strict=True):
        A, B = (torch.sign(z[:, :, None] - z[:, None, :]).double() for z in (a, b))
        tau += float(cosines(A.flatten(1), B.flatten(1)).sum())
        rho += float(cosines(A.sum(dim=2), B.sum(dim=2)).sum())  # twice the centred ranks
    return tau / images, rho / images


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Of the rows; 0 where one is 0."""
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > 0, (a * b).sum(dim=1) / size.clamp(min=1e-300), 0.0)


def correlation(logits: Tensor) -> Tensor:
    """Pearson's correlation of the classes' logits over images: (N, K) -> (K, K), in float64.

    A class whose logit never moves is correlated with nothing: 0, and 1 with itself.
    """
    z = logits.double()
    z = z - z.mean(dim=0)
    size = z.norm(dim=0)
    z = torch.where(size > 0, z / size.clamp(min=1e-300), 0.0)
    return (z.T @ z).fill_diagonal_(1.0)


def correlation_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The teacher's correlation of class logits minus the student's: (N, K) each -> (K, K).

    The figure by which CRD (arXiv:1910.10699) and DKD (arXiv:2203.08679) show how much of the
    teacher's structure between classes a student has taken over: 0 is all of it.
    """
    return correlation(teacher) - correlation(student)
