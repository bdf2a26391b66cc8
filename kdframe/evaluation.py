"""What is measured on a split: accuracy, NLL, calibration and agreement with the teacher."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe import parallel
from kdframe.backbones import Backbone, Output, fold_if_same
from kdframe.datasets import Batch
from kdframe.loading import Loader

BINS = 15
FOLD_AT = 8  # batches: to fold and to check costs what 2 to 8 batches save
SAMPLE = 4  # images on which a folded copy is held against its network


class Tally:
    """Sums over the images of a split, on the device, in float64.

    The expected calibration error is that of Guo et al. 2017, arXiv:1706.04599, equation 3:
    15 bins (a, b] of equal width over the largest probability.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)
        self.bins = torch.zeros(BINS, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, target: Tensor, same: Tensor) -> None:
        """Adds a batch of logits (B, K), targets (B,) and agreements with the teacher (B,)."""
        log_p = F.log_softmax(logits.double(), dim=1)
        best = log_p.topk(min(5, log_p.shape[1]), dim=1).indices
        hit = best == target[:, None]
        nll = -log_p.gather(1, target[:, None])
        ones = torch.ones_like(nll)
        columns = (hit[:, :1], hit.any(dim=1, keepdim=True), nll, same[:, None], ones)
        self.sums += torch.cat([c.double() for c in columns], dim=1).sum(dim=0)
        confidence = log_p.amax(dim=1).exp()
        bin_of = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        self.bins.index_add_(0, bin_of, confidence - hit[:, 0].double())

    def result(self) -> dict[str, float]:
        """top1, top5 and agreement in percent, nll in nats, ece in 0..1."""
        sums, bins = parallel.summed(self.sums), parallel.summed(self.bins)
        top1, top5, nll, same, count = sums.tolist()
        return {
            "top1": 100 * top1 / count,
            "top5": 100 * top5 / count,
            "nll": nll / count,
            "ece": float(bins.abs().sum()) / count,
            "agreement": 100 * same / count,
            "images": count,
        }


def evaluate(
    networks: Mapping[str, Backbone],
    batches: Iterable[Batch],
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> dict[str, dict[str, float]]:
    """Measures several networks in one pass over a split.

    From the ninth batch on folded copies are asked, which answer the same to 1e-5 of the largest
    logit, or the network itself is; so is one that is compiled.

    Returns, for each name, ``Tally.result``; "agreement" (the percentage of images on which a
    network names the class that the network called "teacher" names) is there only if one is.
    """
    tallies = {name: Tally(device) for name in networks}
    modes = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    asked = dict(networks)
    with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision.itemsize < 4):
        for number, batch in enumerate(batches):
            if number == FOLD_AT:
                asked = {name: quickest(n, batch.image, precision) for name, n in networks.items()}
            logits = {name: plain(n)(batch.image).logits for name, n in asked.items()}
            named = logits.get("teacher")
            for name, tally in tallies.items():
                said = logits[name].argmax(dim=1)
                same = torch.zeros_like(said) if named is None else said == named.argmax(dim=1)
                tally.add(logits[name], batch.target, same)
    for name, network in networks.items():
        network.train(modes[name])
    results = {name: tally.result() for name, tally in tallies.items()}
    if "teacher" not in networks:
        for result in results.values():
            del result["agreement"]
    return results


def watched(loader: Loader, batch_size: int, look: Callable[[], None]) -> Iterator[Batch]:
    """Every image of a split once over all processes, with a call of ``look`` before each batch.

    Processes may agree in ``look``: several of them don't call it for the last batch where one of
    them may have no part of it.
    """
    shared = len(loader) // batch_size + (parallel.world() == 1)
    for number, batch in enumerate(loader.all(batch_size, parallel.rank(), parallel.world())):
        if number < shared:
            look()
        yield batch


def plain(network: Backbone) -> Callable[[Tensor], Output]:
    """The network as it is written: compiled, it is for training's equal batches."""
    return network if network._compiled_call_impl is None else network.forward


def quickest(network: Backbone, image: Tensor, precision: torch.dtype) -> Backbone:
    """A folded copy, where that answers the same."""
    if network._compiled_call_impl is not None:
        return network  # a copy would be compiled anew in every epoch
    return fold_if_same(network, image[:SAMPLE], precision).network


def chance(classes: int, images: int) -> float:
    """The accuracy in percent that guessing passes in one of about 700 tries: 1/K + 3 errors."""
    p = 1 / classes
    return 100 * (p + 3 * math.sqrt(p * (1 - p) / images))
