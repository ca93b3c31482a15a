"""The scenes that the base model is pre-trained on: wider than the scenes of the tasks."""

import string

import numpy as np

from fcit_plugin.samples.mini.drawing import KINDS, STYLES
from fcit_plugin.samples.mini.scenes import (
    BAR_LEVELS,
    COLOR_NAMES,
    TRENDS,
    BarScene,
    LineScene,
    Scene,
    TableScene,
    ThingScene,
    WordScene,
    pick,
    pick_some,
    place,
    tint,
)

KIND_NAMES = tuple(KINDS)
LETTERS = tuple(string.ascii_uppercase)


def one_thing(rng: np.random.Generator) -> ThingScene:
    """A large thing in any style."""
    return place(rng, 1, [(pick(rng, KIND_NAMES), pick(rng, COLOR_NAMES), pick(rng, STYLES))])


def few_things(rng: np.random.Generator) -> ThingScene:
    """One to three things of different colors in any style."""
    colors = pick_some(rng, COLOR_NAMES, int(rng.integers(1, 4)))
    plain = rng.random() < 0.4
    return place(rng, 2, [(pick(rng, KIND_NAMES), c, "filled" if plain else pick(rng, STYLES)) for c in colors])


def many_things(rng: np.random.Generator) -> ThingScene:
    """One to seven small things of at most three colors, all alike or mixed."""
    colors, kinds = pick_some(rng, COLOR_NAMES, int(rng.integers(1, 4))), KIND_NAMES
    if rng.random() < 0.4:
        kinds = (pick(rng, KIND_NAMES),)
    count = max(len(colors), int(rng.integers(1, 8)))
    if rng.random() < 0.3:
        count = len(colors)
    mixed = colors + [pick(rng, colors) for _ in range(count - len(colors))]
    return place(rng, 3, [(pick(rng, kinds), color, "filled") for color in mixed])


def word(rng: np.random.Generator) -> WordScene:
    """Three letters."""
    letters = "".join(pick(rng, LETTERS) for _ in range(3))
    return WordScene(letters, int(rng.integers(3)), pick(rng, COLOR_NAMES), tint(rng))


def bars(rng: np.random.Generator) -> BarScene:
    """Three bars."""
    levels = tuple(int(v) for v in rng.integers(1, BAR_LEVELS + 1, size=3))
    return BarScene(tuple(pick_some(rng, COLOR_NAMES, 3)), levels, tint(rng))


def lines(rng: np.random.Generator) -> LineScene:
    """One line or two."""
    colors = pick_some(rng, COLOR_NAMES, 1 + int(rng.random() < 0.7))
    trends = tuple(pick(rng, TRENDS) for _ in colors)
    return LineScene(tuple(colors), trends, int(rng.integers(-2, 3)), tint(rng))


def table(rng: np.random.Generator) -> TableScene:
    """Three letters with their digits."""
    digits = tuple(int(v) for v in rng.integers(0, 10, size=3))
    if rng.random() < 0.7:
        digits = tuple(1 + digit % 5 for digit in digits)
    return TableScene(tuple(pick_some(rng, LETTERS, 3)), digits, tint(rng))


SHARES = {one_thing: 0.08, few_things: 0.24, many_things: 0.24, word: 0.06, bars: 0.12, lines: 0.14, table: 0.12}


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene of a random family."""
    makers = tuple(SHARES)
    return makers[int(np.searchsorted(np.cumsum(list(SHARES.values())), rng.random()))](rng)
