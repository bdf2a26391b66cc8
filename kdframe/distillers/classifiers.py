"""What terms on classifiers share: the linear layer that ends a network, and what it reads."""

import torch
from torch import nn

from kdframe.backbones import Backbone


def linear_classifier(network: Backbone, whose: str = "teacher") -> nn.Linear:
    """The network's layer from embedding to logits.

    Raises:
        ValueError: it has no single one, or one that isn't linear.
    """
    classifier = network.classifier
    if type(classifier) is not nn.Linear:  # a subclass may do more than W h + b
        raise ValueError(
            f"it takes a {whose} whose classifier is a Linear, not {type(classifier).__name__}."
        )
    return classifier


def classifier_of_mean(network: Backbone, whose: str = "teacher") -> nn.Linear:
    """The same, of a network whose embedding is the mean of its last map over positions.

    Raises:
        ValueError: its embedding isn't, or its classifier isn't linear.
    """
    classifier = linear_classifier(network, whose)
    noise = torch.Generator().manual_seed(0)
    # noise, for a map of the black image of ``probe`` may be even, and its maximum the mean too
    images = torch.rand(2, *network.input_size, generator=noise).to(classifier.weight)
    with network.looked_at():
        _, embedding, features = network(images)
    mean = features[-1].mean(dim=(2, 3))
    rounding = 1e-3 * embedding.abs().max()
    if mean.shape != embedding.shape or not (mean - embedding).abs().max() <= rounding:
        raise ValueError(f"it takes a {whose} whose embedding is the mean of its last map.")
    return classifier
