"""Several identity tokens for a subspace whose instructions are of several kinds.

The mean of kinds that have little in common is near none of them, so a subspace that serves a capability of several data sets may
lose its own instructions to another one. A prototype is the mean over instructions of one kind; a subspace is as near to an
instruction as the nearest of its prototypes (nearest-prototype classification, as in prototypical networks, arXiv 1703.05175, with
several prototypes for a class).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .organizer import unit


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Kinds of instructions.

    Attributes:
        means: float32 [P, D].
        counts: int64 [P], instructions in each mean, at least 1.
    """

    means: np.ndarray
    counts: np.ndarray


def prototypes_of(embedded: np.ndarray, threshold: float, counts: np.ndarray | None = None) -> Prototypes:
    """Cover vectors by groups, the heaviest group first: a vector and all that are left within the threshold of it.

    Done by a client with its instructions, and by the server with the prototypes of several clients.

    Args:
        embedded: [n, D], at least one.
        threshold: the cosine from which a vector belongs to a group's first one.
        counts: int64 [n], what each vector weighs; None for 1 each.

    Returns:
        The weighted means of the groups, in the order in which they were found (ties: the first vector).
    """
    weights = np.ones(len(embedded), np.int64) if counts is None else counts
    rows = unit(embedded)
    near = rows @ rows.T >= threshold
    np.fill_diagonal(near, True)  # a cosine of a vector to itself may be rounded to less than 1
    left = np.ones(len(embedded), bool)
    means, sizes = [], []
    while left.any():
        heaviest = np.where(left, (near & left) @ weights, 0).argmax()
        group = near[heaviest] & left
        size = weights[group].sum()
        means.append(weights[group] @ embedded[group].astype(np.float64) / size)
        sizes.append(size)
        left &= ~group
    return Prototypes(np.array(means, np.float32), np.array(sizes, np.int64))


def nearest_cosines(embedded: np.ndarray, subspaces: Sequence[Prototypes]) -> np.ndarray:
    """For each of [n, D] and each of K subspaces the largest cosine to one of its prototypes, float64 [n, K]."""
    rows = unit(embedded)
    return np.stack([(rows @ unit(prototypes.means).T).max(axis=1) for prototypes in subspaces], axis=1)
