"""The quick start's set: drawn letters and digits; no file, no download."""

import math
import string

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kdframe.datasets.base import Dataset, InMemory
from kdframe.registry import DATASETS

CLASSES = string.digits + string.ascii_uppercase
MOST = 10**8  # images, 3 kB each
SIZE = 32  # of an image, in pixels
FACE = 40  # of the face that glyphs are cut from; a capital is 28 high
CANVAS = 48
BRIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue


@DATASETS.register("glyphs")
def glyphs(split: str, *, train: int = 1200, test: int = 3600, seed: int = 0) -> Dataset:
    """36 letters and digits, turned, scaled, sheared, moved, coloured and noisy: 32x32.

    ``train`` and ``test`` are numbers of images, balanced over the classes.  Every image is a
    function of (seed, split, item), so a larger set begins with the smaller one's images.

    Raises:
        ValueError: no such split, too few or too many images, a negative seed.
    """
    counts = {"train": train, "test": test}
    if split not in counts:
        raise ValueError(f"glyphs has no split {split!r}: it has train and test.")
    if min(train, test) < len(CLASSES) or max(train, test) > MOST or seed < 0:
        raise ValueError(
            f"glyphs takes {len(CLASSES)} to {MOST:,} images and a seed of 0 or more, "
            f"not train {train}, test {test}, seed {seed}."
        )
    stencils = [stencil(name) for name in CLASSES]
    targets = torch.arange(counts[split]) % len(CLASSES)
    number = list(counts).index(split)
    images = [
        draw(stencils[target], np.random.default_rng((seed, number, item)))
        for item, target in enumerate(targets.tolist())
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return InMemory(pixels, targets, tuple(CLASSES), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def stencil(name: str) -> Image.Image:
    """A glyph in white on black, in the middle of its canvas."""
    image = Image.new("L", (CANVAS, CANVAS))
    middle, face = (CANVAS / 2, CANVAS / 2), ImageFont.load_default(FACE)
    ImageDraw.Draw(image).text(middle, name, fill=255, font=face, anchor="mm")
    return image


def draw(glyph: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
    """One image (32, 32, 3) of a glyph, with all that is random taken from ``random``."""
    turn = math.radians(random.uniform(-20, 20))
    zoom, shear = random.uniform(0.5, 0.85), random.uniform(-0.3, 0.3)
    x, y = SIZE / 2 + random.uniform(-3, 3, size=2)
    # from a pixel of the image back to one of the stencil, as Pillow wants it
    cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
    a, b, d, e = cos + shear * sin, sin - shear * cos, -sin, cos
    back = (a, b, CANVAS / 2 - a * x - b * y, d, e, CANVAS / 2 - d * x - e * y)
    moved = glyph.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, back, resample=Image.Resampling.BILINEAR
    )
    ink = np.asarray(moved, dtype=np.float32)[:, :, None] / 255
    paper, pen = colours(random)
    noise = random.standard_normal((SIZE, SIZE, 3), dtype=np.float32)
    image = paper + ink * (pen - paper) + random.uniform(5, 25) * noise
    return image.clip(0, 255).astype(np.uint8)


def colours(random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A background, and a foreground that is brighter by 100 of 255 or more."""
    while True:
        paper, pen = random.uniform(0, 255, size=(2, 3)).astype(np.float32)
        if (pen - paper) @ BRIGHTNESS >= 100:
            return paper, pen
