"""Tasks on plots and bar charts."""

import numpy as np

from ..scenes import BAR_LEVELS, COLOUR_NAMES, TRENDS, BarScene, LineScene, pick, pick_some, tint
from .base import Sample

OPTION_COLOURS = ("red", "green", "blue", "purple")


def arxivqa(rng: np.random.Generator) -> Sample:
    """Multiple choice on a figure with one curve; the answer is the letter of the option."""
    colour, trend = pick(rng, OPTION_COLOURS), pick(rng, TRENDS)
    topic, options, answer = pick(
        rng, (("trend", TRENDS, TRENDS.index(trend)), ("color", OPTION_COLOURS, OPTION_COLOURS.index(colour)))
    )
    listed = " ".join(f"{letter}) {option}" for letter, option in zip("ABCD", options))
    question = pick(
        rng,
        (
            f"Based on the scientific figure, which {topic} has the curve? {listed} Answer with the letter.",
            f"According to the scientific figure, which {topic} has the curve? {listed} Answer with the letter.",
        ),
    )
    return Sample(LineScene((colour,), (trend,), int(rng.integers(-2, 3)), tint(rng)), question, "ABCD"[answer])


def figureqa(rng: np.random.Generator) -> Sample:
    """Yes or no: does one line lie above or below the other?"""
    colours = pick_some(rng, COLOUR_NAMES, 2)
    trends = (pick(rng, TRENDS), pick(rng, TRENDS))
    truth, above = bool(rng.integers(2)), bool(rng.integers(2))
    first, second = colours if truth == above else colours[::-1]
    relation = "greater" if above else "less"
    question = pick(
        rng,
        (
            f"Is {first} {relation} than {second}?",
            f"Is {first} always {relation} than {second}?",
        ),
    )
    return Sample(
        LineScene(tuple(colours), trends, int(rng.integers(-2, 3)), tint(rng)), question, "yes" if truth else "no"
    )


def dvqa(rng: np.random.Generator) -> Sample:
    """Read the value of a bar in per cent."""
    colours = pick_some(rng, COLOUR_NAMES, 3)
    levels = tuple(int(v) for v in rng.integers(1, BAR_LEVELS + 1, size=3))
    asked = int(rng.integers(3))
    question = pick(
        rng,
        (
            f"What percentage does the {colours[asked]} bar reach in the chart?",
            f"In the chart, what percentage is the {colours[asked]} bar?",
            f"Read the percentage of the {colours[asked]} bar from the chart.",
        ),
    )
    return Sample(BarScene(tuple(colours), levels, tint(rng)), question, f"{20 * levels[asked]}%")
