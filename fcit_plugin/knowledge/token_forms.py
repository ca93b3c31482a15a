"""What a client tells of its mean token (``fcit_identity_form``): all its numbers, random mixtures of them, or signs of these.

The directions are public and the package's own, the same for all clients, servers and runs: rows of +1 and -1 as SHAKE-256
draws them, which is the same everywhere and forever. A mixture is linear, so sums of mixtures are mixtures of sums; a sign
tells on which side of a random plane a token lies (Charikar 2002, doi:10.1145/509907.509965). Two tokens with cosine c have
signs with cosine 1 - 2 arccos(c) / pi. What is asked at inference never leaves its place and is not rounded: its mixtures have
to signs sqrt(2 / pi) times the cosine that they have to the mixtures.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .prototypes import Prototypes
from .vectors import on_grid

if TYPE_CHECKING:
    from .nearness import Nearness

#: Of the directions; to be raised whenever they change, for tokens of different ones have nothing in common.
VERSION = 1


@dataclass(frozen=True)
class TokenForm:
    """A form of identity tokens.

    Attributes:
        name: As `fcit_identity_form` has it.
        count: How many random directions; None: the encoder's own numbers.
        signs: Whether signs alone are told.
    """

    name: str
    count: int | None = None
    signs: bool = False

    @property
    def key(self) -> str:
        """The name, with the version of the directions if there are any: what a message calls the token."""
        return "mean" if self.count is None else f"{self.name}-{VERSION}"

    @property
    def left(self) -> float:
        """What rounding leaves of the cosine between what is asked and what was told."""
        return math.sqrt(2 / math.pi) if self.signs else 1.0

    def width(self, dimension: int) -> int:
        """Numbers in a token, of an encoder with `dimension`."""
        return dimension if self.count is None else self.count

    def mixed(self, rows: np.ndarray) -> np.ndarray:
        """Tokens [n, D] as their mixtures, float32 [n, count] on the grid; full ones as they are."""
        if self.count is None:
            return rows
        return on_grid(rows @ _directions(self.count, rows.shape[1]).T)

    def told(self, mixed: np.ndarray) -> np.ndarray:
        """What is told of mixtures [..., count]: signs as float32 +1 and -1 (0 counts as +1); of other forms themselves."""
        return np.where(mixed < 0, np.float32(-1), np.float32(1)) if self.signs else mixed

    def told_kinds(self, kinds: Prototypes) -> Prototypes:
        """The same of kinds of instructions."""
        return Prototypes(self.told(kinds.means), kinds.counts)

    def is_told(self, numbers: np.ndarray) -> bool:
        """Whether numbers can be a client's token of this form."""
        return not self.signs or bool((np.abs(numbers) == 1).all())

    def nearness(self, near: "Nearness") -> "Nearness":
        """An encoder's cosines as they are between what clients tell; those with anything unrounded in them stay."""
        if not self.signs:
            return near
        return replace(near, threshold=sign_cosine(near.threshold), of_one_kind=sign_cosine(near.of_one_kind))

    def cosines(self, asked: np.ndarray) -> np.ndarray:
        """Cosines of unrounded mixtures to what was told, as they would be to what was not rounded either (at most 1)."""
        return np.minimum(asked / self.left, 1.0) if self.signs else asked

    def directions(self, dimension: int) -> np.ndarray | None:
        """The directions [count, dimension] that mixtures are made by, None for full tokens."""
        return None if self.count is None else _directions(self.count, dimension)


def sign_cosine(cosine: float) -> float:
    """The cosine that random signs of two vectors have, expected over all directions.

    Args:
        cosine: Of the two vectors.
    """
    return 1 - 2 * math.acos(min(1.0, max(-1.0, cosine))) / math.pi


#: All forms by name.
FORMS = {
    form.name: form
    for form in (
        TokenForm("full"),
        TokenForm("projected_256", 256),
        *(TokenForm(f"signs_{count}", count, signs=True) for count in (512, 256, 128, 64)),
    )
}
FULL = FORMS["full"]


@cache
def _directions(count: int, dimension: int) -> np.ndarray:
    """Public random directions, float32 [count, dimension]; a mixture is as long as what it is made of, in the mean."""
    seed = f"fcit-plugin identity form {VERSION}: {count} directions of {dimension} numbers".encode()
    drawn = np.frombuffer(hashlib.shake_256(seed).digest(-(-count * dimension // 8)), np.uint8)
    signs = np.unpackbits(drawn)[: count * dimension].reshape(count, dimension)
    found: np.ndarray = ((2.0 * signs - 1.0) / math.sqrt(count)).astype(np.float32)
    return found
