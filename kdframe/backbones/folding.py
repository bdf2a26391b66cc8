"""BatchNorm folded into the convolution before it: the same answers, with less to compute."""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kdframe.backbones.base import Backbone, Output
from kdframe.backbones.preactivations import NORMS

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # these alone: others do more with their weights
FOLDABLE = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d)
EXACT = 1e-5  # relative to a tensor's largest value


class Fold(NamedTuple):
    """A network to ask in another's place, and how that was found."""

    network: Backbone  # a folded copy; the other itself where that doesn't answer the same
    convolutions: int  # that a norm was folded into, or would have been
    difference: float  # of the answers; see the function


def fold_if_same(backbone: Backbone, image: Tensor, precision: torch.dtype = torch.float32) -> Fold:
    """A folded copy of ``backbone`` if it answers these images the same to 1e-5, in float32.

    In half precision its convolutions' weights are rounded once, where autocast rounds a frozen
    network's in every pass: the same bits.
    """
    pairs = foldable(backbone, image[:1])
    if not pairs:
        return Fold(backbone, 0, 0.0)
    copied = folded(backbone, pairs)
    try:
        found = difference(copied, backbone, image)
    except AttributeError:  # the network reads of its norms what an Identity hasn't
        found = math.inf
    if not found <= EXACT:  # nor is a NaN
        return Fold(backbone, len(pairs), found)
    if precision.itemsize < torch.float32.itemsize:
        for conv, _ in pairs:
            copied.network.get_submodule(conv).to(precision)
    return Fold(copied, len(pairs), found)


@torch.no_grad()
def folded(backbone: Backbone, pairs: Sequence[tuple[str, str]] | None = None) -> Backbone:
    """A frozen deep copy in eval mode, whose convolutions do what the norms after them did.

        y = gamma (W x + b - mean) / sqrt(var + eps) + beta
          = (s W) x + s (b - mean) + beta,   s = gamma / sqrt(var + eps)

    s W and the bias are computed in float64 and rounded once.  In the norm's place is an Identity,
    or the activation that it had.  The copy's taps are those that ``backbone`` has by now, norms
    included.  ``pairs`` are those that ``foldable`` finds.
    """
    for layer in backbone.modules():
        if isinstance(vars(layer).get("kept"), Tensor):
            layer.kept = None  # type: ignore[assignment]  # a map, which may have a graph
    copied = copy.deepcopy(backbone).eval().requires_grad_(False)
    for of_conv, of_norm in foldable(backbone) if pairs is None else pairs:
        conv: Any = copied.network.get_submodule(of_conv)
        norm: Any = copied.network.get_submodule(of_norm)
        means = norm.running_mean, norm.running_var, norm.eps
        numbers = (conv.weight, conv.bias, *means, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(*map(doubled, numbers))
        conv.weight = rounded(weight, conv.weight)
        conv.bias = rounded(bias, conv.weight.new_empty(len(bias)))
        copied.network.set_submodule(of_norm, getattr(norm, "act", nn.Identity()))
    return copied


def rounded(exact: Tensor, like: Tensor) -> nn.Parameter:
    """A new, frozen parameter of another's type, device and layout."""
    return nn.Parameter(torch.empty_like(like).copy_(exact), requires_grad=False)


def doubled(x: Any) -> Any:
    """A tensor in float64, on the CPU where its device has none."""
    if not isinstance(x, Tensor):
        return x
    return x.detach().cpu().double() if x.device.type == "mps" else x.detach().double()


def foldable(backbone: Backbone, image: Tensor | None = None) -> list[tuple[str, str]]:
    """Names in ``network`` of each convolution and the BatchNorm that alone takes its output.

    A forward pass of an image (a random one, if none is given) shows it: both are called once,
    under one name, and no other layer takes what the convolution answers.  What a network does to
    it without a layer isn't seen: so the answers must be compared.
    """
    calls: list[tuple[nn.Module, list[Any], Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any, found: Any) -> None:
        calls.append((module, [*args, *kwargs.values()], found))

    names = defaultdict[nn.Module, list[str]](list)
    for name, module in backbone.network.named_modules(remove_duplicate=False):
        names[module].append(name)
    if not any(type(m) in FOLDABLE for m in names):
        return []
    single = {m for m, found in names.items() if len(found) == 1 and not has_hooks(m)}
    layers = [m for m in names if isinstance(m, NORMS) or not any(m.children())]
    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        answer = look(backbone, noise(backbone) if image is None else image)
    finally:
        for hook in hooks:
            hook.remove()
    taken = defaultdict[int, list[nn.Module]](list)  # by whom, for a tensor's id: all are alive
    for module, given, _ in calls:
        for x in given:
            taken[id(x)].append(module)
    times = Counter(module for module, _, _ in calls)
    handed_out = {id(x) for x in (answer.logits, answer.embedding, *answer.features)}
    pairs = []
    for conv, _, found in calls:
        takers = taken[id(found)]
        if type(conv) in CONVOLUTIONS and len(takers) == 1 and id(found) not in handed_out:
            norm: Any = takers[0]
            fits = type(norm) in FOLDABLE and norm.running_mean is not None
            if fits and {conv, norm} <= single and times[conv] == times[norm] == 1:
                pairs.append((names[conv][0], names[norm][0]))
    return pairs


def has_hooks(module: nn.Module) -> bool:
    """Whether something else looks at, or changes, what the layer is given or answers."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def noise(backbone: Backbone) -> Tensor:
    """A random image, the same each time."""
    image = torch.randn(1, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    return image.to(next(backbone.parameters()))


def look(backbone: Backbone, image: Tensor) -> Output:
    """The answer in eval mode, in the weights' precision, not compiled."""
    with backbone.looked_at(), torch.autocast(image.device.type, enabled=False):
        return backbone.forward(image)


def difference(one: Backbone, other: Backbone, image: Tensor) -> float:
    """How far two networks' answers are apart.

    The largest of all tensors of an Output and of the maps before activations, where those are
    tapped; for each tensor the largest difference, relative to the largest value.
    """
    pairs = zip(tensors(one, image), tensors(other, image), strict=True)
    tiny = torch.finfo(image.dtype).tiny
    found = [(a - b).abs().max() / b.abs().max().clamp_min(tiny) for a, b in pairs]
    return float(torch.stack(found).max())


def tensors(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """All that ``look`` finds, and the maps before activations."""
    answer = look(backbone, image)
    before = backbone.before_activation(answer).features
    return [answer.logits, answer.embedding, *answer.features, *before]
