"""How much of the student's gradient each term of a loss makes up.

A weight that does nothing is a silent mistake: the loss falls, the term is in the log, and the
student never feels it.  Values of terms don't show that, their gradients do.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term
from kdframe.plan import seed_of

LEAST, MOST = 0.01, 0.99  # of the gradient; beyond, a term decides nothing or everything


@dataclass(frozen=True)
class TermGradient:
    """A term's part in the student's gradient, the mean over batches."""

    weight: float  # at this epoch, warm-up included
    value: float  # of the term, unweighted
    norm: float  # of the weighted term's gradient in the student's parameters
    share: float  # of the sum of all terms' norms, 0..1
    cosine: float  # with the sum of the other terms' gradients; 0 where there are none


def warnings(found: Mapping[str, TermGradient], warming: Collection[str] = ()) -> dict[str, str]:
    """What is wrong with a term's share; nothing with a term alone, or with one of those that are
    still ``warming`` up and will be more.
    """
    said = {}
    settled = [name for name, term in found.items() if term.weight and name not in warming]
    for name in settled if len(found) > 1 else ():
        share = found[name].share
        if share < LEAST:
            said[name] = f"{100 * share:.2g} % of the gradient: it does nearly nothing."
        elif share > MOST and len(settled) == len(found):
            said[name] = f"{100 * share:.4g} % of the gradient: the rest does nearly nothing."
    return said


def term_gradients(model: Distillation, batches: Iterable[Batch]) -> dict[str, TermGradient]:
    """Measures the terms that are on at the batches' epoch, in float32 and in training mode.

    Each term is asked alone, with the same draws, as often as there are batches.  BatchNorm's
    running means and what terms keep move as in training: hand over a model that is trained no
    further.

    Raises:
        ValueError: no batches, or no term is on.
    """
    terms, precision = model.terms, model.precision
    model.train()
    model.unfold()
    model.precision = torch.float32
    sums: dict[str, Tensor] = {}
    count = 0
    try:
        for count, batch in enumerate(batches, 1):
            on = [term for term in terms if term.is_on(batch.epoch)]
            found = {term.name: alone(model, term, batch, count) for term in on}
            total: Tensor | int = sum(gradient for _, gradient in found.values())
            for term in on:
                value, gradient = found[term.name]
                others = total - gradient
                cosine = F.cosine_similarity(gradient, others, dim=0, eps=1e-30)
                row = [term.weight_at(batch.epoch), value, float(gradient.norm()), float(cosine)]
                sums[term.name] = sums.get(term.name, torch.zeros(4)) + torch.tensor(row)
    finally:
        model.terms, model.precision = terms, precision
    if not sums:
        raise ValueError("term_gradients takes a batch or more, at an epoch at which a term is on.")
    means = {name: (row / count).tolist() for name, row in sums.items()}
    whole = sum(norm for _, _, norm, _ in means.values()) or 1.0
    return {
        name: TermGradient(weight, value, norm, norm / whole, cosine if len(means) > 1 else 0.0)
        for name, (weight, value, norm, cosine) in means.items()
    }


def alone(model: Distillation, term: Term, batch: Batch, draw: int) -> tuple[float, Tensor]:
    """The term's value, and the gradient of weight times value in the student's parameters."""
    parameters = [p for p in model.student.parameters() if p.requires_grad]
    model.terms = (term,)
    torch.manual_seed(seed_of("gradient", draw))
    loss, values = model(batch)
    gradients: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        torch.zeros_like(p) if gradient is None else gradient
        for p, gradient in zip(parameters, gradients, strict=True)
    ]
    return values[term.name].item(), torch.cat([x.flatten().double().cpu() for x in flat])
