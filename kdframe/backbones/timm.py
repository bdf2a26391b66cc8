"""Every network of timm: Wightman 2019, https://github.com/huggingface/pytorch-image-models."""

import difflib
import functools
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from kdframe.backbones.base import Backbone, Output
from kdframe.backbones.papers import Rules, renamed
from kdframe.registry import BACKBONES

PUBLIC_NAMES: Rules = (  # of the ResNet50 that the distillation papers train on 32x32 images
    (r"\.shortcut\.", ".downsample."),
    (r"^linear\.", "fc."),
)
FAULTS = (AssertionError, RuntimeError, TypeError, ValueError)  # what timm and torch raise


@BACKBONES.register("timm")
def timm_network(
    num_classes: int,
    *,
    model: str = "resnet18",
    small_input: bool = False,
    image_size: int = 0,
    patch_size: int = 0,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Backbone:
    """A timm network by its name there; 0 leaves an option to timm.

    ``small_input``: a ResNet's stem for 32x32 images, a 3x3 convolution without stride or pooling.
    ``image_size``, ``patch_size``: for networks built for one size of image, as ViTs are.

    Raises:
        ValueError: an unknown model, an option that it doesn't take, or one that can't give an
            ``Output``.
    """
    require(model)
    given = {
        "img_size": image_size,
        "patch_size": patch_size,
        "drop_rate": drop_rate,
        "drop_path_rate": drop_path_rate,
    }
    options = {name: value for name, value in given.items() if value}
    create = functools.partial(timm.create_model, model, num_classes=num_classes, **options)
    try:
        network = create()
    except FAULTS as error:  # timm finds a wrong option by handing it to the network's __init__
        raise ValueError(f"timm can't make {model} with {options}: {error}") from error
    height, width = network.pretrained_cfg["input_size"][1:]
    if small_input:
        use_small_stem(network, model)
        height = width = 32
    elif image_size:
        height = width = image_size
    fits = timm.models.is_model_pretrained(model) and not small_input
    names = classifiers_of(network, model)
    backbone = Backbone(
        network,
        functools.partial(answer, classifiers=names),
        (3, height, width),
        functools.partial(published_weights, create) if fits else None,
        names[0] if len(names) == 1 else "",
        functools.partial(renamed, PUBLIC_NAMES) if small_input else None,
    )
    check(backbone, names, model)
    return backbone


@functools.partial(BACKBONES.family, timm.list_models)
def timm_network_named(model: str) -> functools.partial[Backbone]:
    """The part of one timm network."""
    return functools.partial(timm_network, model=model)


def require(model: str) -> None:
    """Raises a ValueError with the nearest name where timm has no such network."""
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"model: timm has no {model!r}.{hint}")


def published_weights(create: functools.partial[nn.Module]) -> dict[str, Tensor]:
    """Weights that timm publishes; a classifier of another number of classes is left random."""
    return create(pretrained=True).state_dict()


def use_small_stem(network: nn.Module, model: str) -> None:
    """Replaces a ResNet's 7x7 convolution and pooling, each of stride 2."""
    if not isinstance(network, ResNet) or not isinstance(network.conv1, nn.Conv2d):
        raise ValueError(
            f"small_input is for timm's ResNets with a stem of one convolution, and {model} "
            "has another."
        )
    channels = network.conv1.out_channels
    network.conv1 = nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()


def classifiers_of(network: nn.Module, model: str) -> tuple[str, ...]:
    """Names of the layers that give the logits; from now on each keeps its input.

    A classifier's input is the embedding in every family; what ``pre_logits`` returns isn't where
    there are two of them, or a convolution for one.  The hook stays, as a plain function: so it
    survives deepcopy and torch.compile.
    """
    names = getattr(network, "pretrained_cfg", {}).get("classifier")
    if not names or not hasattr(network, "forward_intermediates"):
        raise ValueError(f"timm's {model} doesn't hand out its features and classifier.")
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        network.get_submodule(name).register_forward_pre_hook(keep_input)
    return names


def keep_input(classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A forward pre-hook."""
    classifier.kept = inputs[0]


def answer(network: Any, image: Tensor, *, classifiers: tuple[str, ...]) -> Output:
    """One pass; the embeddings of several classifiers stand side by side."""
    final, features = network.forward_intermediates(image, output_fmt="NCHW")
    logits = network.forward_head(final)
    embeddings = []
    for name in classifiers:
        classifier = network.get_submodule(name)
        embeddings.append(classifier.kept.flatten(1))
        classifier.kept = None
    return Output(logits, torch.cat(embeddings, dim=1), features)


def check(backbone: Backbone, classifiers: tuple[str, ...], model: str) -> None:
    """Holds the Output for a random image against the network's own answer."""
    network: Any = backbone.network
    image = torch.randn(1, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    backbone.eval()
    try:
        with torch.no_grad():
            logits, output = network(image), backbone(image)
    except FAULTS as error:
        size = backbone.input_size[1:]
        raise ValueError(f"timm's {model} can't answer to an image of {size}: {error}") from error
    backbone.train()
    inputs = [network.get_submodule(name).weight.shape[1] for name in classifiers]
    same = torch.allclose(output.logits, logits, rtol=1e-4, atol=1e-5)
    if output.embedding.shape[1] != sum(inputs) or not same:
        raise ValueError(f"timm's {model} has a head that no single embedding leads to.")
