"""Tasks on plots and bar charts."""

import numpy as np

from ..scenes import BAR_LEVELS, COLOR_NAMES, TRENDS, BarScene, LineScene, pick, tint
from .base import Sample

OPTION_COLORS = ("red", "green", "blue", "purple")


def arxivqa(rng: np.random.Generator) -> Sample:
    """Multiple choice on a figure with one curve; the answer is the letter of the option."""
    color, trend = pick(rng, OPTION_COLORS), pick(rng, TRENDS)
    topic, options, answer = pick(
        rng, (("trend", TRENDS, TRENDS.index(trend)), ("color", OPTION_COLORS, OPTION_COLORS.index(color)))
    )
    listed = " ".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
    question = pick(
        rng,
        (
            f"Based on the scientific figure, which {topic} has the curve? {listed} Answer with the letter.",
            f"According to the scientific figure, which {topic} has the curve? {listed} Answer with the letter.",
        ),
    )
    return Sample(LineScene((color,), (trend,), int(rng.integers(-2, 3)), tint(rng)), question, "ABCD"[answer])


def figureqa(rng: np.random.Generator) -> Sample:
    """Yes or no: is the red line above the other?"""
    other, red_above = pick(rng, [color for color in COLOR_NAMES if color != "red"]), bool(rng.integers(2))
    colors = ("red", other) if red_above else (other, "red")
    question = pick(
        rng,
        (
            f"Is red greater than {other}?",
            f"Is red always greater than {other}?",
            f"Is {other} always less than red?",
        ),
    )
    scene = LineScene(colors, (pick(rng, TRENDS), pick(rng, TRENDS)), int(rng.integers(-2, 3)), tint(rng))
    return Sample(scene, question, "yes" if red_above else "no")


def dvqa(rng: np.random.Generator) -> Sample:
    """Read the value of a chart with one bar in per cent."""
    color, level = pick(rng, COLOR_NAMES), int(rng.integers(1, BAR_LEVELS + 1))
    question = pick(
        rng,
        (
            f"What percentage does the {color} bar reach in the chart?",
            f"In the chart, what percentage is the {color} bar?",
            f"Read the percentage of the {color} bar from the chart.",
        ),
    )
    return Sample(BarScene((color,), (level,), tint(rng), int(rng.integers(3))), question, f"{20 * level}%")
