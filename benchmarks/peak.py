"""What the machine can do at best: a matrix product, and a 3x3 convolution."""

import torch
from torch import nn

from benchmarks.clock import Work
from kdframe.backbones import Backbone
from kdframe.reports.complexity import complexity


def works(device: torch.device, precision: torch.dtype) -> dict[str, tuple[Work, int]]:
    """Each with its floating-point operations; a multiply-add is two."""
    side = 8192 if device.type == "cuda" else 1024
    images = 256 if device.type == "cuda" else 32
    a, b = (torch.randn(side, side, device=device, dtype=precision) for _ in range(2))
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(device, precision)
    conv.to(memory_format=torch.channels_last).requires_grad_(False)
    image = torch.randn(images, 64, 32, 32, device=device, dtype=precision)
    image = image.contiguous(memory_format=torch.channels_last)

    def product() -> None:
        a @ b

    def convolution() -> None:
        conv(image)

    return {
        "matrix product": (product, 2 * side**3),
        "3x3 convolution": (convolution, 2 * 9 * 64 * 64 * 32 * 32 * images),
    }


def flops(teacher: Backbone, student: Backbone, images: int) -> int:
    """Of a step, by fvcore's multiply-adds: a backward pass costs two forward passes."""
    once, thrice = (complexity(network).multiply_adds for network in (teacher, student))
    return 2 * (once + 3 * thrice) * images
