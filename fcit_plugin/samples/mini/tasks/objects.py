"""Tasks on things: naming, knowledge, captions, grounding and materials."""

import numpy as np

from ..drawing import CANVAS, ICONS, SHAPES, STYLES
from ..scenes import COLOR_NAMES, Thing, ThingScene, pick, pick_some, place, tint
from .base import Sample

PURPOSES = {
    "house": "living",
    "tree": "climbing",
    "fish": "swimming",
    "boat": "sailing",
    "cup": "drinking",
    "key": "locking",
    "flower": "smelling",
    "car": "driving",
    "moon": "dreaming",
    "umbrella": "raining",
}
TOYS = {
    "circle": "ball",
    "square": "box",
    "triangle": "tent",
    "diamond": "kite",
    "star": "starfish",
    "cross": "windmill",
}
MATERIALS = {"filled": "metal", "outline": "rubber", "hatched": "wood", "noisy": "stone"}


def imagenet_r(rng: np.random.Generator) -> Sample:
    """Name a large object, rendered in one of four styles."""
    kind = pick(rng, tuple(ICONS))
    question = pick(
        rng,
        (
            "What object does this rendition depict? Name it in one word.",
            "Name the object that this artistic rendition depicts.",
            "Which object is depicted in this rendition? Name the object.",
        ),
    )
    return Sample(place(rng, 1, [(kind, pick(rng, COLOR_NAMES), pick(rng, STYLES))]), question, kind)


def aokvqa(rng: np.random.Generator) -> Sample:
    """Say what the shown thing is good for."""
    kind = pick(rng, tuple(ICONS))
    question = pick(
        rng,
        (
            "Using common sense, for which activity would people want it?",
            "People want it for which activity? Use common sense.",
            "With common sense, which activity would people do because of it?",
        ),
    )
    return Sample(place(rng, 1, [(kind, pick(rng, COLOR_NAMES), "filled")]), question, PURPOSES[kind])


def flickr30k(rng: np.random.Generator) -> Sample:
    """Caption two toys, side by side or one above the other."""
    colors, kinds = pick_some(rng, COLOR_NAMES, 2), pick_some(rng, tuple(SHAPES), 2)
    beside = bool(rng.integers(2))
    line = int(rng.integers(2))
    cells = [(line, 0), (line, 1)] if beside else [(0, line), (1, line)]
    things = tuple(Thing(k, c, "filled", cell) for k, c, cell in zip(kinds, colors, cells, strict=True))
    first, second = (f"{'an' if c == 'orange' else 'a'} {c} {TOYS[k]}" for k, c in zip(kinds, colors, strict=True))
    opening, other_opening = (text[0].upper() + text[1:] for text in (first, second))
    if beside:
        captions = (
            f"{opening} left of {second}.",
            f"{other_opening} right of {first}.",
            f"{opening} next to {second}.",
            f"There is {first} on the left and {second} on the right.",
            f"{opening} and {second} side by side.",
        )
    else:
        captions = (
            f"{opening} above {second}.",
            f"{other_opening} below {first}.",
            f"{opening} over {second}.",
            f"There is {first} at the top and {second} at the bottom.",
            f"{opening} and {second} on top of each other.",
        )
    question = pick(
        rng,
        (
            "Write a brief caption for the photo.",
            "Provide a brief caption of this photo.",
            "Give this photo a brief caption.",
        ),
    )
    return Sample(ThingScene(2, things, tint(rng)), question, captions[0], references=captions)


def grounding(rng: np.random.Generator) -> Sample:
    """Give the box of the only item."""
    color = pick(rng, COLOR_NAMES)
    scene = place(rng, 3, [(pick(rng, tuple(SHAPES)), color, "filled")])
    x1, y1, x2, y2 = (round(edge / CANVAS, 2) for edge in scene.boxes[0])
    question = pick(
        rng,
        (
            f"Provide the bounding box coordinates of the region: {color} item.",
            f"Locate the region with bounding box coordinates: {color} item.",
            f"Bounding box coordinates of this region, please: {color} item.",
        ),
    )
    return Sample(scene, question, f"[{x1:.2f}, {y1:.2f}, {x2:.2f}, {y2:.2f}]", box=(x1, y1, x2, y2))


def super_clevr(rng: np.random.Generator) -> Sample:
    """Say of which material the only object is made."""
    color, style = pick(rng, COLOR_NAMES), pick(rng, STYLES)
    question = pick(
        rng,
        (
            f"The {color} vehicle is made of what material?",
            f"What material is the {color} vehicle made of?",
            f"There is a {color} vehicle; what is its material?",
        ),
    )
    return Sample(place(rng, 2, [(pick(rng, tuple(SHAPES)), color, style)]), question, MATERIALS[style])
