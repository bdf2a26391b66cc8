"""A small convolutional network."""

from torch import Tensor, nn

from kdframe.backbones import Backbone, Output


def my_convnet(num_classes: int, *, width: int = 8) -> Backbone:
    """A stem and two stages of one 3x3 convolution each, ``width``, 2x and 4x wide.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width takes an int above 0, not {width}.")
    network = nn.ModuleDict(
        {
            "stem": block(3, width),
            "stage1": block(width, 2 * width),
            "stage2": block(2 * width, 4 * width),
            "classifier": nn.Linear(4 * width, num_classes),
        }
    )
    return Backbone(network, answer)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Halves the image."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def answer(network: nn.Module, image: Tensor) -> Output:
    """One forward pass; stage 0 is the stem."""
    features = []
    for name in ("stem", "stage1", "stage2"):
        image = network.get_submodule(name)(image)
        features.append(image)
    embedding = image.mean(dim=(2, 3))
    return Output(network.get_submodule("classifier")(embedding), embedding, features)
