"""Scenes: what is on an image, kept beside its pixels.

A scene knows its content exactly; tasks and pre-training ask their questions about that content.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .drawing import CANVAS, COLORS, GRAY, INK, axes, bar, blank, glyph, polyline, sprite, stamp

Box = tuple[int, int, int, int]
Tint = tuple[int, int, int]

COLOR_NAMES = tuple(COLORS)
TRENDS = ("rising", "falling", "flat", "peaked")
BAR_LEVELS = 5
SPRITE_SIZES = {1: 36, 2: 20, 3: 14}
WORD_SIZE, TABLE_SIZE = 18, 15


def pick(rng: np.random.Generator, options):
    """One of the options, uniformly."""
    return options[int(rng.integers(len(options)))]


def pick_some(rng: np.random.Generator, options, count: int) -> list:
    """Several different options in random order."""
    return [options[int(i)] for i in rng.permutation(len(options))[:count]]


def tint(rng: np.random.Generator) -> Tint:
    """A light background color; it makes images with the same content differ."""
    red, green, blue = (int(v) for v in rng.integers(226, 256, size=3))
    return red, green, blue


@dataclass(frozen=True)
class Thing:
    """One thing to draw: its look, its cell (row, column) and its shift (x, y) off the middle of the cell."""

    kind: str
    color: str
    style: str
    cell: tuple[int, int]
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ThingScene:
    """Things on a grid of ``cells`` by ``cells``."""

    cells: int
    things: tuple[Thing, ...]
    background: Tint

    @cached_property
    def drawn(self) -> tuple[np.ndarray, list[Box]]:
        """The image and the box of each thing."""
        canvas, side = blank(self.background), CANVAS // self.cells
        boxes = []
        for thing in self.things:
            row, column = thing.cell
            center = (column * side + side // 2 + thing.shift[0], row * side + side // 2 + thing.shift[1])
            mask = sprite(thing.kind, SPRITE_SIZES[self.cells], thing.style)
            boxes.append(stamp(canvas, mask, center, COLORS[thing.color]))
        return canvas, boxes

    @property
    def pixels(self) -> np.ndarray:
        """The image."""
        return self.drawn[0]

    @property
    def boxes(self) -> list[Box]:
        """The box of each thing in pixels."""
        return self.drawn[1]

    def of(self, color: str) -> Thing:
        """The first thing of a color."""
        return next(thing for thing in self.things if thing.color == color)


@dataclass(frozen=True)
class WordScene:
    """Three characters in one row of three, between two bands like a book cover."""

    word: str
    row: int
    ink: str
    background: Tint

    @cached_property
    def pixels(self) -> np.ndarray:
        """The image."""
        canvas = blank(self.background)
        for column, character in enumerate(self.word):
            center = (8 + 16 * column, 8 + 16 * self.row)
            stamp(canvas, glyph(character, WORD_SIZE), center, COLORS[self.ink])
        return canvas


@dataclass(frozen=True)
class BarScene:
    """A chart of at most three bars, from a first place on; levels run from 1 to ``BAR_LEVELS``."""

    colors: tuple[str, ...]
    levels: tuple[int, ...]
    background: Tint
    first: int = 0

    @cached_property
    def pixels(self) -> np.ndarray:
        """The image."""
        canvas = blank(self.background)
        for position, (color, level) in enumerate(zip(self.colors, self.levels, strict=True), start=self.first):
            bar(canvas, 16 * position + 2, 12, 9 * level, COLORS[color])
        return canvas


@dataclass(frozen=True)
class LineScene:
    """A plot of one line, or of two where the first lies above the second."""

    colors: tuple[str, ...]
    trends: tuple[str, ...]
    wobble: int
    background: Tint

    @cached_property
    def pixels(self) -> np.ndarray:
        """The image."""
        canvas = blank(self.background)
        axes(canvas)
        self.masks(canvas)
        return canvas

    def masks(self, canvas: np.ndarray) -> list[np.ndarray]:
        """Paint the lines and return the pixels of each."""
        bands = [(6, 40)] if len(self.colors) == 1 else [(4, 18), (28, 42)]
        painted = []
        for color, trend, (top, bottom) in zip(self.colors, self.trends, bands, strict=True):
            middle = (top + bottom) // 2
            heights = {
                "rising": (bottom, middle, top),
                "falling": (top, middle, bottom),
                "flat": (middle, middle, middle),
                "peaked": (bottom, top, bottom),
            }[trend]
            points = [(x, y + self.wobble) for x, y in zip((4, 24, 45), heights, strict=True)]
            painted.append(polyline(canvas, points, COLORS[color]))
        return painted


@dataclass(frozen=True)
class TableScene:
    """A table of three rows: a letter and its digit."""

    letters: tuple[str, ...]
    digits: tuple[int, ...]
    background: Tint

    @cached_property
    def pixels(self) -> np.ndarray:
        """The image."""
        canvas = blank(self.background)
        canvas[[15, 31], :] = GRAY
        canvas[:, 24] = GRAY
        for row, (letter, digit) in enumerate(zip(self.letters, self.digits, strict=True)):
            stamp(canvas, glyph(letter, TABLE_SIZE), (12, 8 + 16 * row), INK)
            stamp(canvas, glyph(str(digit), TABLE_SIZE), (36, 8 + 16 * row), INK)
        return canvas


Scene = ThingScene | WordScene | BarScene | LineScene | TableScene


def place(rng: np.random.Generator, cells: int, looks: list[tuple[str, str, str]]) -> ThingScene:
    """Put things with the given (kind, color, style) into different random cells of a grid."""
    reach = {1: 4, 2: 1, 3: 0}[cells]
    spots = pick_some(rng, [(row, column) for row in range(cells) for column in range(cells)], len(looks))
    things = []
    for look, spot in zip(looks, spots, strict=True):
        x, y = (int(v) for v in rng.integers(-reach, reach + 1, size=2))
        things.append(Thing(*look, cell=spot, shift=(x, y)))
    return ThingScene(cells, tuple(things), tint(rng))
