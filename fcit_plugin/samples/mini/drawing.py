"""Drawing primitives on a 48 px canvas: sprites in four styles, glyphs, bars and lines."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CANVAS = 48
INK = (40, 40, 40)
GRAY = (150, 150, 150)

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (20, 150, 50),
    "blue": (30, 70, 225),
    "yellow": (235, 205, 0),
    "purple": (145, 40, 175),
    "orange": (245, 130, 20),
}
STYLES = ("filled", "outline", "hatched", "noisy")

Parts = tuple[tuple[str, tuple[float, ...], int], ...]

# Each kind is a list of (primitive, coordinates in the unit square, 1 to draw or 0 to erase).
SHAPES: dict[str, Parts] = {
    "circle": (("ellipse", (0, 0, 1, 1), 1),),
    "square": (("polygon", (0.05, 0.05, 0.95, 0.05, 0.95, 0.95, 0.05, 0.95), 1),),
    "triangle": (("polygon", (0.5, 0, 1, 1, 0, 1), 1),),
    "diamond": (("polygon", (0.5, 0, 0.85, 0.5, 0.5, 1, 0.15, 0.5), 1),),
    "star": (
        (
            "polygon",
            (0.5, 0, 0.62, 0.36, 1, 0.36, 0.7, 0.6, 0.82, 1, 0.5, 0.76, 0.18, 1, 0.3, 0.6, 0, 0.36, 0.38, 0.36),
            1,
        ),
    ),
    "cross": (
        ("polygon", (0.34, 0, 0.66, 0, 0.66, 1, 0.34, 1), 1),
        ("polygon", (0, 0.34, 1, 0.34, 1, 0.66, 0, 0.66), 1),
    ),
}
ICONS: dict[str, Parts] = {
    "house": (
        ("polygon", (0.5, 0, 1, 0.45, 0, 0.45), 1),
        ("polygon", (0.12, 0.45, 0.88, 0.45, 0.88, 1, 0.12, 1), 1),
        ("polygon", (0.4, 0.65, 0.6, 0.65, 0.6, 1, 0.4, 1), 0),
    ),
    "tree": (
        ("ellipse", (0.1, 0, 0.9, 0.65), 1),
        ("polygon", (0.42, 0.6, 0.58, 0.6, 0.58, 1, 0.42, 1), 1),
    ),
    "fish": (
        ("ellipse", (0, 0.22, 0.75, 0.78), 1),
        ("polygon", (0.65, 0.5, 1, 0.15, 1, 0.85), 1),
        ("ellipse", (0.14, 0.36, 0.27, 0.49), 0),
    ),
    "boat": (
        ("polygon", (0, 0.68, 1, 0.68, 0.8, 1, 0.2, 1), 1),
        ("polygon", (0.5, 0, 0.5, 0.58, 0.05, 0.58), 1),
        ("polygon", (0.56, 0.1, 0.9, 0.58, 0.56, 0.58), 1),
    ),
    "cup": (
        ("ellipse", (0.5, 0.25, 1, 0.75), 1),
        ("ellipse", (0.62, 0.38, 0.88, 0.62), 0),
        ("polygon", (0.05, 0.1, 0.72, 0.1, 0.66, 0.95, 0.12, 0.95), 1),
    ),
    "key": (
        ("ellipse", (0, 0.28, 0.46, 0.74), 1),
        ("ellipse", (0.14, 0.42, 0.32, 0.6), 0),
        ("polygon", (0.42, 0.44, 1, 0.44, 1, 0.58, 0.42, 0.58), 1),
        ("polygon", (0.66, 0.5, 0.76, 0.5, 0.76, 0.8, 0.66, 0.8), 1),
        ("polygon", (0.88, 0.5, 1, 0.5, 1, 0.8, 0.88, 0.8), 1),
    ),
    "flower": (
        ("ellipse", (0.3, 0, 0.7, 0.42), 1),
        ("ellipse", (0.3, 0.58, 0.7, 1), 1),
        ("ellipse", (0, 0.3, 0.42, 0.7), 1),
        ("ellipse", (0.58, 0.3, 1, 0.7), 1),
        ("ellipse", (0.38, 0.38, 0.62, 0.62), 0),
    ),
    "car": (
        ("polygon", (0.22, 0.22, 0.72, 0.22, 0.86, 0.5, 0.12, 0.5), 1),
        ("polygon", (0, 0.46, 1, 0.46, 1, 0.74, 0, 0.74), 1),
        ("ellipse", (0.1, 0.62, 0.38, 0.9), 1),
        ("ellipse", (0.62, 0.62, 0.9, 0.9), 1),
    ),
    "moon": (
        ("ellipse", (0.05, 0, 0.95, 1), 1),
        ("ellipse", (0.4, -0.08, 1.2, 0.82), 0),
    ),
    "umbrella": (
        ("ellipse", (0, 0.05, 1, 1.0), 1),
        ("polygon", (0, 0.5, 1, 0.5, 1, 1.1, 0, 1.1), 0),
        ("polygon", (0.45, 0.4, 0.55, 0.4, 0.55, 1, 0.45, 1), 1),
        ("polygon", (0.45, 0.9, 0.78, 0.9, 0.78, 1, 0.45, 1), 1),
    ),
}
KINDS: dict[str, Parts] = SHAPES | ICONS


@cache
def sprite(kind: str, size: int, style: str = "filled") -> np.ndarray:
    """Boolean mask of a thing drawn in one of the styles, trimmed to its ink.

    Args:
        kind: A key of ``KINDS``.
        size: Side of the square that the thing is drawn into, in pixels.
        style: One of ``STYLES``.
    """
    scale = 4
    image = Image.new("L", (size * scale, size * scale))
    pen = ImageDraw.Draw(image)
    for primitive, coordinates, value in KINDS[kind]:
        getattr(pen, primitive)([c * (size * scale - 1) for c in coordinates], fill=255 * value)
    image = image.resize((size, size), Image.Resampling.BOX).point(lambda v: 255 * (v > 110))
    body = np.asarray(image) > 0
    mask = body & _texture(body, style)
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _texture(body: np.ndarray, style: str) -> np.ndarray:
    """Which pixels of a body carry ink in a style; the edge always does, except when noisy."""
    if style == "filled":
        return body
    if style == "noisy":
        return np.random.default_rng(body.shape[0]).random(body.shape) < 0.55
    padded = Image.fromarray(np.pad(body, 1).astype(np.uint8) * 255)
    edge = body & ~(np.asarray(padded.filter(ImageFilter.MinFilter(3)))[1:-1, 1:-1] > 0)
    if style == "outline":
        return edge
    rows, columns = np.indices(body.shape)
    return edge | ((rows + columns) % 4 < 1)


@cache
def glyph(character: str, size: int) -> np.ndarray:
    """Boolean mask of one character, trimmed to its ink.

    Args:
        character: The character to draw.
        size: Font size in pixels.
    """
    image = Image.new("L", (2 * size, 2 * size))
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(image).text((size // 2, size // 4), character, fill=255, font=font, stroke_width=0)
    mask = np.asarray(image) > 90
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def blank(tint: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """A fresh canvas of one light color."""
    return np.full((CANVAS, CANVAS, 3), tint, dtype=np.uint8)


def stamp(
    canvas: np.ndarray, mask: np.ndarray, center: tuple[int, int], color: tuple[int, int, int]
) -> tuple[int, int, int, int]:
    """Paint a mask around a center (x, y) and return its box (left, top, right, bottom) in pixels.

    The mask is shifted as far as needed to stay on the canvas.
    """
    height, width = mask.shape
    left = min(max(center[0] - width // 2, 0), CANVAS - width)
    top = min(max(center[1] - height // 2, 0), CANVAS - height)
    canvas[top : top + height, left : left + width][mask] = color
    return left, top, left + width, top + height


def bar(canvas: np.ndarray, left: int, width: int, height: int, color: tuple[int, int, int]) -> None:
    """Paint a bar that stands on the lower edge."""
    canvas[CANVAS - height :, left : left + width] = color


def polyline(canvas: np.ndarray, points: list[tuple[int, int]], color: tuple[int, int, int]) -> np.ndarray:
    """Paint a line of 2 px through the points (x, y) and return the mask of its pixels."""
    image = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(image).line(points, fill=255, width=3)
    mask = np.asarray(image) > 0
    canvas[mask] = color
    return mask


def axes(canvas: np.ndarray) -> None:
    """Paint the two axes of a plot."""
    canvas[:, 1] = GRAY
    canvas[CANVAS - 2, :] = GRAY
