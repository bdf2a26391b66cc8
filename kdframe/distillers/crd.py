"""Contrastive distillation: Tian et al. 2020, arXiv:1910.10699, as in the authors' code."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.draws import scrambled, spans
from kdframe.distillers.ranges import above_0, from_0_to_1
from kdframe.registry import DISTILLERS

CHUNK = 2**25  # numbers that are held at once: 128 MiB in float32


@DISTILLERS.register("crd", needs=("labels", "global_batch"))
class CRD(nn.Module):
    """Tells an image's embedding by the other network from those of images of other classes.

        v      = linear(h) / ||linear(h)||,  to ``dim`` numbers, one for each network
        p(x)   = exp(<v, x> / temperature) / Z,   x from the other network's bank
        c      = negatives / N
        L      = -(1/B) sum over images, and over both networks' v, of
                 log( p(x_0) / (p(x_0) + c + e) ) + sum_k log( c / (p(x_k) + c + e) ),  e = 1e-7

    x_0 is the image's own entry, x_k are ``negatives`` of the N training images.  A bank holds a
    v of every image; after the loss its entry becomes m x_0 + (1 - m) v, to length 1, with m =
    ``momentum``.  Z is N times the mean of exp over the first batch, and then held.  In nats;
    2 log(negatives + 1) + 2 where nothing is told apart, never 0.

    Departs from the authors' code: log p stays a logarithm; negatives are drawn on the device, as
    a function of the image's number and of how often this was called, one from each of
    ``negatives`` equal spans of the other classes' images (each is as likely as another, none
    comes twice unless there are too few); N doesn't count images that are held out.

    Memory: twice the two banks, of ``dim`` numbers an image; B x ``negatives`` scores and item
    numbers; and chunks of 2^25 numbers, in the backward pass too.

    Raises:
        ValueError: a wrong option; labels of one class; a batch before ``set_labels``.

    Published: WEIGHT .8 beside cross_entropy 1; with kd 1 on top it is CRD + KD.
    CIFAR-100: 75.51, 75.48, 73.94, 71.16.
    """

    bank: Tensor
    calls: Tensor
    log_z: Tensor
    order: Tensor
    start: Tensor
    count: Tensor

    def __init__(
        self,
        student: Backbone,
        teacher: Backbone,
        *,
        negatives: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        above_0(negatives=negatives, dim=dim, temperature=temperature)
        from_0_to_1(momentum=momentum)
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum
        self.embed = nn.ModuleList(nn.Linear(n.embedding_size, dim) for n in (student, teacher))
        self.dim = dim
        self.images = 0  # N
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_z", torch.zeros(2))

    def set_labels(self, labels: Tensor) -> None:
        """Makes the banks, and sorts the images that are trained on by class."""
        count = labels[labels >= 0].bincount()
        if (count > 0).sum() < 2:
            raise ValueError("crd takes training images of two classes at least.")
        self.images = int(count.sum())
        bound = math.sqrt(3 / self.dim)  # a length of 1, on average
        bank = torch.rand(2, len(labels), self.dim, dtype=self.log_z.dtype) * 2 * bound - bound
        self.register_buffer("bank", bank.to(self.log_z.device))
        sorted_by_class = labels.argsort(stable=True)[-self.images :]
        tables = {"order": sorted_by_class, "start": count.cumsum(0) - count, "count": count}
        for name, table in tables.items():
            self.register_buffer(name, table.to(self.log_z.device), persistent=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        if not self.images:
            raise ValueError("crd takes the class of every training item: call set_labels first.")
        v_student, v_teacher = (
            F.normalize(embed(output.embedding), dim=1)
            for embed, output in zip(self.embed, (student, teacher), strict=True)
        )
        bank = self.bank.clone()  # the backward pass needs it as it is: the bank itself moves on
        x = torch.cat((batch.item[:, None], self.drawn(batch)), dim=1)
        scores = torch.stack((products(v_student, bank[1], x), products(v_teacher, bank[0], x)))
        scores = scores / self.temperature
        self.remember(torch.stack((v_student, v_teacher)).detach(), scores.detach(), batch)
        return self.contrast(scores - self.log_z[:, None, None]) / len(x)

    def contrast(self, log_p: Tensor) -> Tensor:
        """-log D of x_0 and -log (1 - D) of the x_k, summed."""
        log_c = math.log(self.negatives / self.images)
        log_sum = math.log(self.negatives / self.images + 1e-7)
        own = F.softplus(log_sum - log_p[:, :, 0])
        others = F.softplus(log_p[:, :, 1:] - log_sum) + (log_sum - log_c)
        return own.sum() + others.sum()

    @torch.no_grad()
    def remember(self, v: Tensor, scores: Tensor, batch: Batch) -> None:
        """Moves the banks on, and sets Z at the first call."""
        log_mean = scores.flatten(1).logsumexp(dim=1) - math.log(scores[0].numel())
        log_z = log_mean + math.log(self.images)
        self.log_z.copy_(torch.where(self.calls == 0, log_z, self.log_z))
        moved = self.momentum * self.bank[:, batch.item] + (1 - self.momentum) * v
        self.bank.index_copy_(1, batch.item, F.normalize(moved, dim=2).to(self.bank.dtype))
        self.calls += 1

    def drawn(self, batch: Batch) -> Tensor:
        """The numbers of the x_k (B, negatives)."""
        start, own = self.start[batch.target], self.count[batch.target]
        seed = scrambled(scrambled(self.calls) ^ batch.item)
        place = spans(seed, self.images - own, self.negatives)
        return self.order[place + own[:, None] * (place >= start[:, None])]


def products(v: Tensor, bank: Tensor, x: Tensor) -> Tensor:
    """<v_b, bank_(x_bk)> as (B, 1 + negatives), some images at a time."""
    N, K = len(bank), x.shape[1]
    if N <= 8 * K:  # all products are fewer than it costs to pick rows
        take, size = of_all, CHUNK // N
    else:
        take, size = of_rows, CHUNK // (K * bank.shape[1])
    chunks = zip(*(torch.split(t, max(1, size)) for t in (v, x)), strict=True)
    return torch.cat([checkpoint(take, *chunk, bank, use_reentrant=False) for chunk in chunks])


def of_all(v: Tensor, x: Tensor, bank: Tensor) -> Tensor:
    """Those that ``x`` names, of the products with the whole bank."""
    return (v @ bank.T).gather(1, x)


def of_rows(v: Tensor, x: Tensor, bank: Tensor) -> Tensor:
    """The products with the rows that ``x`` names."""
    return (bank[x] @ v[:, :, None])[:, :, 0]
