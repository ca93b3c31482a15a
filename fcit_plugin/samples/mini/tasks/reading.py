"""Tasks that read characters."""

import numpy as np

from ..scenes import COLOR_NAMES, TableScene, WordScene, pick, pick_some, tint
from .base import Sample

TITLES = [
    *("ANT", "BEE", "CAT", "DOG", "ELK", "FOX", "GNU", "HEN", "ICE", "JAM", "KID", "LAW"),
    *("MAP", "NUT", "OAK", "PIG", "RUG", "SUN", "TOY", "URN", "VAN", "WEB", "YAK", "ZIP"),
]
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
    return Sample(WordScene(title, int(rng.integers(3)), pick(rng, COLOR_NAMES), tint(rng)), question, title)


def tabmwp(rng: np.random.Generator) -> Sample:
    """Look up a price in the first row of a table."""
    letters = pick_some(rng, LETTERS, 3)
    prices = [int(v) for v in rng.integers(1, MAX_PRICE + 1, size=3)]
    question = pick(
        rng,
        (
            f"How much money does Ann need to buy {letters[0]}?",
            f"Ann will buy {letters[0]}. How much money is it?",
        ),
    )
    return Sample(TableScene(tuple(letters), tuple(prices), tint(rng)), question, f"${prices[0]}.00")
