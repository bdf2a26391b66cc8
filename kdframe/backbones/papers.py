"""What the networks of the distillation papers share: a name in timm, names in public files."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from kdframe.backbones.base import Backbone

Part = Callable[[int], Backbone]
Rules = tuple[tuple[str, str], ...]

CIFAR100 = {
    "num_classes": 100,
    "input_size": (3, 32, 32),
    "mean": (0.5071, 0.4867, 0.4408),
    "std": (0.2675, 0.2565, 0.2761),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
}


def in_timm(name: str, *, classifier: str = "fc") -> Callable[[Part], Part]:
    """A decorator by which ``timm.create_model(name)`` makes a part's network.

    A name that timm has already stays timm's.
    """

    def add(part: Part) -> Part:
        def network(*, num_classes: int, in_chans: int) -> nn.Module:
            if in_chans != 3:
                raise ValueError(f"{name} takes images of 3 channels, not {in_chans}.")
            return part(num_classes).network

        def create(pretrained: bool = False, pretrained_cfg: Any = None, **options: Any) -> Any:
            about = pretrained_cfg or {**CIFAR100, "classifier": classifier}
            return build_model_with_cfg(network, name, pretrained, about, **options)

        create.__name__ = name  # which timm registers it by
        if not timm.is_model(name):
            register_model(create)
        return part

    return add


def renamed(rules: Rules, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a public file under a network's own names: every (pattern, name), in order.

    The files meant are those of RepDistiller (CRD's code) and of mdistiller, whose names agree.

    Raises:
        ValueError: two tensors come to the same name.
    """
    own: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name in own:
            raise ValueError(f"the file has {name} twice, under two names")
        own[name] = tensor
    return own
