"""Tasks that read characters."""

import numpy as np

from ..scenes import COLOUR_NAMES, TableScene, WordScene, pick, pick_some, tint
from .base import Sample

TITLES = ("ANT BEE CAT DOG ELK FOX GNU HEN ICE JAM KID LAW MAP NUT OAK PIG RUG SUN TOY URN VAN WEB YAK ZIP").split()
LETTERS = "ABCDEFGHKLMNPRSTUVXZ"
MAX_PRICE = 5


def ocrvqa(rng: np.random.Generator) -> Sample:
    """Read the title of a book."""
    title = pick(rng, TITLES)
    question = pick(
        rng,
        (
            "What is the title of this book?",
            "Read out the title of the book.",
            "This book has which title?",
        ),
    )
    return Sample(WordScene(title, int(rng.integers(3)), pick(rng, COLOUR_NAMES), tint(rng)), question, title)


def tabmwp(rng: np.random.Generator) -> Sample:
    """Look up a price in a table, or add two of them."""
    letters = pick_some(rng, LETTERS, 3)
    prices = [int(v) for v in rng.integers(1, MAX_PRICE + 1, size=3)]
    if rng.integers(2):
        total = prices[0]
        question = pick(
            rng,
            (f"How much money does Ann need to buy {letters[0]}?", f"Ann will buy {letters[0]}. How much money is it?"),
        )
    else:
        total = prices[0] + prices[1]
        bought = f"{letters[0]} and {letters[1]}"
        question = pick(
            rng, (f"How much money does Ann need to buy {bought}?", f"Ann will buy {bought}. How much money is it?")
        )
    order = pick_some(rng, range(3), 3)
    scene = TableScene(tuple(letters[i] for i in order), tuple(prices[i] for i in order), tint(rng))
    return Sample(scene, question, f"${total}.00")
