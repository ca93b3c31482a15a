"""A public list of images: what they have in common is what all images of a vision tower share."""

import numpy as np
from PIL import Image

_COUNT, _SIDE = 64, 64


def reference_images() -> list[Image.Image]:
    """64 drawings of one to five colored boxes on a light ground, always the same ones.

    Plain gray or noise would be no center: a tower's answer to them lies far from that to any picture of something, so
    that all pictures would lie on one side of it. Changing a pixel changes the identity tokens of every run.
    """
    rng = np.random.RandomState(0)  # the one generator whose numbers are the same in every version of NumPy
    return [_drawing(rng, boxes=1 + i % 5) for i in range(_COUNT)]


def _drawing(rng: np.random.RandomState, boxes: int) -> Image.Image:
    pixels = np.empty((_SIDE, _SIDE, 3), np.uint8)
    pixels[:] = rng.randint(220, 256, 3)
    for _ in range(boxes):
        top, left = rng.randint(0, _SIDE - 8, 2)
        height, width = rng.randint(4, _SIDE // 2, 2)
        pixels[top : top + height, left : left + width] = rng.randint(0, 256, 3)
    return Image.fromarray(pixels)
