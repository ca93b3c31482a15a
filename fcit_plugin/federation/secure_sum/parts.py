"""What server and site mean alike: the bounds of sums, the place of a session, a site's update, and its numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from .fixed import Fixed
from .texts import SHARED

#: Numbers before those of the update: the weight, and the loss.
HEAD = 2


@dataclass(frozen=True)
class SumBounds:
    """What a site, and the server, holds to in every sum.

    Attributes:
        least: k, the fewest clients of an opened sum, 3 or more: with two each would know the other's part.
        largest: C, the largest L2 norm of an update, all its sums together.
        most_examples: W, the largest weight.
    """

    least: int
    largest: float
    most_examples: int

    def __post_init__(self) -> None:
        assert self.least >= 3 and self.largest > 0 and self.most_examples >= 1, self

    def fixed(self, clients: int) -> Fixed:
        """The numbers of a sum of so many clients."""
        return Fixed(clients, self.largest, self.most_examples)


@dataclass(frozen=True)
class Place:
    """What a request is for, as its configuration says."""

    run: str
    stage: int
    round: int


@dataclass(frozen=True)
class Update:
    """What a site has trained.

    Attributes:
        weight: Its examples.
        loss: Its mean loss.
        changes: For each sum the float32 arrays of its part, by key.
    """

    weight: int
    loss: float
    changes: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class SumsOfRun:
    """What a run with secure sums needs beside its recipe.

    Attributes:
        keys: The public keys of the sites, by client.
        folder: Gives the folder of what is kept of a round until it is over, by stage and round; None keeps nothing.
    """

    keys: Mapping[int, ec.EllipticCurvePublicKey]
    folder: Callable[[int, int], Path] | None = None


def in_words(name: str) -> str:
    """A sum, in a sentence."""
    return "sum over all clients" if name == SHARED else f"sum of subspace {name}"
