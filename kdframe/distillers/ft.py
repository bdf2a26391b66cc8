"""Factor transfer: Kim, Park and Kwak 2018, arXiv:1802.04977, equation 3, after their code."""

import itertools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillers.maps import same_size
from kdframe.distillers.ranges import above_0
from kdframe.registry import DISTILLERS


@DISTILLERS.register("ft")
class FT(nn.Module):
    """Matches factors of the networks' last maps, the teacher's drawn out by an autoencoder.

        L = mean | F_student/||F_student|| - F_teacher/||F_teacher|| |
        F_teacher = paraphraser's encoder(f_teacher),  F_student = translator(f_student)

    Norms are Euclidean, over an image's whole factor; the mean is over images and elements: the
    paper's p-norm with p = 1, over a factor's size.  0 for equal factors.  ``rate`` is a factor's
    channels over those of the teacher's map.  Maps of different size: the larger factor is
    average-pooled.

    ``prepare`` trains the paraphraser for ``epochs`` epochs; before and after it is frozen.  Layers
    and recipe are the authors': mean | P(f) - f | (the paper: squared), SGD with lr .1, momentum
    .9 and decay 5e-4; LeakyReLU(.1), no BatchNorm.  Their code runs 6 epochs, CRD's suite 30.

    CRD's suite differs: the mean over channels of the factors' squares takes the factors' place
    (an element is larger by about the root of their channels), the translator has BatchNorm, and
    the paraphraser learns with a squared error and lr .01 (.05 for VGGs and mobile networks).

    Published: 500 beside cross_entropy 1 in the authors' code for CIFAR-10; CRD's suite has 200
    for what it compares instead.
    """

    def __init__(
        self, student: Backbone, teacher: Backbone, *, rate: float = 0.5, epochs: int = 30
    ) -> None:
        super().__init__()
        above_0(rate=rate, epochs=epochs)
        self.epochs = epochs
        (C_student,), (C_teacher,) = student.channels_of((-1,)), teacher.channels_of((-1,))
        C = max(1, round(rate * C_teacher))
        wide_to_narrow, narrow_to_wide = (C_teacher, C_teacher, C, C), (C, C, C_teacher, C_teacher)
        self.paraphraser = nn.Sequential(
            layers(nn.Conv2d, wide_to_narrow), layers(nn.ConvTranspose2d, narrow_to_wide)
        ).requires_grad_(False)
        self.translator = layers(nn.Conv2d, (C_student, C_student, C, C))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        encoder = self.paraphraser[0]
        F_student, F_teacher = same_size(
            self.translator(student.features[-1]), encoder(teacher.features[-1])
        )
        return F.l1_loss(F.normalize(F_student.flatten(1)), F.normalize(F_teacher.flatten(1)))

    def prepare(self, batches: Callable[[int], Iterable[tuple[Output, Batch]]]) -> None:
        """Trains the paraphraser to give back the teacher's last map."""
        self.paraphraser.requires_grad_(True)
        optimizer = torch.optim.SGD(
            self.paraphraser.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
        )
        for epoch in range(self.epochs):
            for teacher, _ in batches(epoch):
                f = teacher.features[-1]
                with torch.enable_grad():  # the teacher's pass may have left it off
                    torch.autograd.backward(F.l1_loss(self.paraphraser(f), f))
                optimizer.step()
                optimizer.zero_grad()
        self.paraphraser.requires_grad_(False)


def layers(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: tuple[int, ...]
) -> nn.Sequential:
    """3x3 convolutions from each of these widths to the next."""
    built: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        built += [convolution(before, after, kernel_size=3, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*built)
