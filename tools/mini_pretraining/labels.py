"""Dense labels for the vision tower: what each patch of a scene shows."""

import string
from dataclasses import dataclass, field

import numpy as np

from fcit_plugin.samples.mini.drawing import CANVAS, COLORS, INK, KINDS, STYLES
from fcit_plugin.samples.mini.scenes import (
    BAR_LEVELS,
    TRENDS,
    BarScene,
    Box,
    LineScene,
    Scene,
    TableScene,
    ThingScene,
    WordScene,
)

PATCH = 8
SIDE = CANVAS // PATCH
IGNORE = -100
MIN_INK = 3
MAX_COUNT = 8

ENTITIES = ("nothing", *KINDS, *string.ascii_uppercase, *string.digits, "bar", "line")
HUES = ("nothing", *COLORS, "ink")

PATCH_HEADS = {
    "entity": len(ENTITIES),
    "hue": len(HUES),
    "style": len(STYLES),
    "level": BAR_LEVELS,
    "trend": len(TRENDS),
    "rank": 3,
    "partner": len(ENTITIES),
}
"""Attribute of a patch -> number of classes."""

COUNT_HEADS = ("everything", *COLORS)
"""Attributes of the whole image: how many things there are of each color."""


@dataclass(frozen=True)
class _Part:
    region: Box
    hue: str
    entity: str
    attributes: dict[str, int] = field(default_factory=dict)


def patch_labels(scene: Scene) -> dict[str, np.ndarray]:
    """Class of each patch for every head of ``PATCH_HEADS``; ``IGNORE`` where it has none."""
    labels = {head: np.full((SIDE, SIDE), IGNORE, dtype=np.int64) for head in PATCH_HEADS}
    labels["entity"][:] = labels["hue"][:] = 0
    most = np.zeros((SIDE, SIDE), dtype=np.int64)
    for part in _parts(scene):
        left, top, right, bottom = part.region
        ink = np.zeros((CANVAS, CANVAS), dtype=bool)
        rgb = INK if part.hue == "ink" else COLORS[part.hue]
        ink[top:bottom, left:right] = (scene.pixels[top:bottom, left:right] == rgb).all(-1)
        amount = ink.reshape(SIDE, PATCH, SIDE, PATCH).sum((1, 3))
        here = (amount >= MIN_INK) & (amount > most)
        most = np.maximum(most, amount)
        values = {"entity": ENTITIES.index(part.entity), "hue": HUES.index(part.hue)} | part.attributes
        for head, value in values.items():
            labels[head][here] = value
    return {head: grid.ravel() for head, grid in labels.items()}


def count_labels(scene: Scene) -> np.ndarray:
    """How many things there are, in all and of each color; ``IGNORE`` unless the scene has things."""
    if not isinstance(scene, ThingScene):
        return np.full(len(COUNT_HEADS), IGNORE, dtype=np.int64)
    colors = [thing.color for thing in scene.things]
    return np.array([len(colors)] + [colors.count(color) for color in COLORS], dtype=np.int64)


def _parts(scene: Scene) -> list[_Part]:
    everywhere = (0, 0, CANVAS, CANVAS)
    match scene:
        case ThingScene():
            return [
                _Part(box, thing.color, thing.kind, {"style": STYLES.index(thing.style)})
                for thing, box in zip(scene.things, scene.boxes, strict=True)
            ]
        case WordScene():
            return [_Part((16 * i, 0, 16 * i + 16, CANVAS), scene.ink, letter) for i, letter in enumerate(scene.word)]
        case BarScene():
            return [_Part(everywhere, c, "bar", {"level": v - 1}) for c, v in zip(scene.colors, scene.levels, strict=True)]
        case LineScene():
            first = 0 if len(scene.colors) == 1 else 1
            return [
                _Part(everywhere, color, "line", {"trend": TRENDS.index(trend), "rank": first + i})
                for i, (color, trend) in enumerate(zip(scene.colors, scene.trends, strict=True))
            ]
        case TableScene():
            return [part for row in range(3) for part in _table_row(scene, row)]


def _table_row(scene: TableScene, row: int) -> tuple[_Part, _Part]:
    letter, digit = scene.letters[row], str(scene.digits[row])
    top, bottom = 16 * row, 16 * row + 16
    return (
        _Part((0, top, 24, bottom), "ink", letter, {"partner": ENTITIES.index(digit)}),
        _Part((24, top, CANVAS, bottom), "ink", digit, {"partner": ENTITIES.index(letter)}),
    )
