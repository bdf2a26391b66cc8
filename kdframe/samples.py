"""The images of a run before it is run: as they are, and as an epoch of training sees them."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdframe import build
from kdframe.config import Config, ConfigError
from kdframe.datasets.images import fit
from kdframe.loading import EVALUATION, Loader, order
from kdframe.registry import DISTILLERS

SPLITS = ("train", "val", "test")


class Samples(NamedTuple):
    """Some images of a split: a row each, its views in columns."""

    views: dict[str, Tensor]  # (N, 3, H, W) uint8 by the column's title; the first is the original
    labels: list[str]  # the class of each
    items: list[int]  # the number of each in its split
    total: int  # images in the split
    normalised: tuple[list[float], list[float]]  # a channel's mean and std as a network sees them


def samples(config: Config, split: str, epochs: tuple[int, ...], count: int) -> Samples:
    """Images of ``split``: of training the first that come in ``epochs[0]``, in their order.

    An original is whole, brought to the set's size.  Its augmentation is that of each epoch: what
    ``Trainer.batches`` hands to the student.  Where a term needs views, there is a column for each
    epoch's second view.  Validation and test images are as evaluation sees them, taken from all
    over the split.

    Raises:
        ConfigError: there is no such split; more images than it has, or than an epoch takes.
    """
    data = build.build_data(config, torch.device("cpu"))
    loader = {"train": data.train, "val": data.val, "test": data.test}[split]
    if loader is None:
        raise ConfigError("--split: there is no validation split: DATASET.VAL is 0.")
    batch = config.tree.SOLVER.BATCH_SIZE
    most = loader.steps(batch) * batch if split == "train" else len(loader)
    if count > most:
        raise ConfigError(f"--count takes at most {most}, the images of {split}, not {count}.")
    if split == "train":
        places = order(len(loader), config.tree.SEED, epochs[0])[:count]
        views, seen = augmented(config, loader, epochs, count)
    else:
        places = torch.linspace(0, len(loader) - 1, count).round().long()
        views, seen = {}, torch.empty(0)
    image, target, item = next(loader.raw([places], EVALUATION))
    if split == "train":  # whole, where evaluation would cut its middle out
        read = (loader.stream.dataset[number][0] for number in item.tolist())
        image = torch.stack([fit(one, data.image[1:]) for one in read])
    else:
        seen = loader.normalised(image)
    classes, channels = data.about["classes"], seen.transpose(0, 1).flatten(1)
    return Samples(
        views={"original": image, **views},
        labels=[str(classes[number]) for number in target.tolist()],
        items=item.tolist(),
        total=len(loader),
        normalised=(channels.mean(dim=1).tolist(), channels.std(dim=1).tolist()),
    )


def augmented(
    config: Config, loader: Loader, epochs: tuple[int, ...], count: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The first images of ``epochs[0]`` as each epoch would show them, and all as they are handed
    over: (N, 3, H, W) float32.
    """
    tree = config.tree
    terms = [key.partition("/")[0] for key, node in tree.LOSS.items() if node is not None]
    second = any("views" in DISTILLERS.needs(name) for name in terms)
    columns, seen = {}, []
    stop = -(-count // tree.SOLVER.BATCH_SIZE)
    for epoch in epochs:
        batches = list(
            loader.train(
                epochs[0],
                tree.SOLVER.BATCH_SIZE,
                views=second,
                augmented_as=drawn_as(config, epoch),
                stop=stop,
            )
        )
        images = torch.cat([batch.image for batch in batches])[:count]
        seen.append(images)
        columns[f"epoch {epoch}"] = pixels(images, loader)
        if second:
            strong = torch.cat([batch.view for batch in batches if batch.view is not None])
            columns[f"epoch {epoch}, second view"] = pixels(strong[:count], loader)
    return columns, torch.cat(seen)


def drawn_as(config: Config, epoch: int) -> int:
    """The epoch whose augmentation comes in ``epoch``: a cached teacher's answers come again."""
    teacher = config.tree.TEACHER
    again = teacher.CACHE_EPOCHS if teacher.CACHE != "off" else 0
    return epoch % again if again else epoch


def pixels(image: Tensor, loader: Loader) -> Tensor:
    """Normalised images as the uint8 that they were."""
    return image.mul(loader.std).add(loader.mean).mul(255).round().clamp(0, 255).to(torch.uint8)
