"""Tasks that count."""

import numpy as np

from ..drawing import ICONS, SHAPES
from ..scenes import COLOR_NAMES, pick, place
from .base import Sample

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six")


def iconqa(rng: np.random.Generator) -> Sample:
    """Count the icons; the answer is a number word."""
    kind, color, count = pick(rng, tuple(ICONS)), pick(rng, COLOR_NAMES), int(rng.integers(1, 7))
    question = pick(
        rng,
        (
            "How many icons are there? Choose a number word.",
            "Count the icons and choose the number word.",
            "Choose the number word that says how many icons there are.",
        ),
    )
    return Sample(place(rng, 3, [(kind, color, "filled")] * count), question, NUMBER_WORDS[count])


def clevr_math(rng: np.random.Generator) -> Sample:
    """Take away everything red; the answer is a digit."""
    kept = pick(rng, [color for color in COLOR_NAMES if color != "red"])
    left, removed = int(rng.integers(0, 5)), int(rng.integers(1, 3))
    looks = [(pick(rng, tuple(SHAPES)), color, "filled") for color in [kept] * left + ["red"] * removed]
    question = pick(
        rng,
        (
            "Subtract all red shapes. How many shapes are left?",
            "Subtract every red shape; how many shapes are left?",
            "If you subtract all red shapes, how many are left?",
        ),
    )
    return Sample(place(rng, 3, looks), question, str(left))
