"""Several identity tokens for a subspace whose instructions are of several kinds.

The mean of kinds that have little in common is near none of them, so a subspace that serves a capability of several data
sets may lose its own instructions to another one. A prototype is the mean over instructions of one kind; a subspace is as
near to an instruction as the nearest of its prototypes (nearest-prototype classification, as in prototypical networks,
arXiv 1703.05175, with several prototypes for a class).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema import LARGEST
from .vectors import TIE, on_grid, unit

#: The cosine from which a client's instructions are of one kind where the encoder has none of its own
#: (:class:`.nearness.Nearness`), and the fewest that are told as a kind: a mean over few would tell of single instructions.
OF_A_CLIENT, FEWEST = 0.7, 5
#: Most kinds that a client tells, the largest ones; and most different instructions that it compares for that.
MAX_KINDS, MOST_COMPARED = 64, 4096
#: The most that the counts of one subspace come to, however long a run is and whatever is joined: sums stay within int64.
MAX_TOTAL = LARGEST
#: The cosine from which kinds of several clients are one, likewise.
OF_ONE_KIND = 0.9


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Kinds of instructions.

    Attributes:
        means: float32 [P, D].
        counts: int64 [P], instructions in each mean, at least 1.
    """

    means: np.ndarray
    counts: np.ndarray


def prototypes_of(
    embedded: np.ndarray, threshold: float, counts: np.ndarray | None = None, most: int | None = None, fewest: int = 1
) -> Prototypes:
    """Cover vectors by groups, the heaviest group first: a vector and all that are left within the threshold of it.

    Done by a client with its instructions, and by the server with the prototypes of several clients.

    Args:
        embedded: [n, D], at least one.
        threshold: the cosine from which a vector belongs to a group's first one.
        counts: int64 [n], what each vector weighs; None for 1 each.
        most: End with so many groups; None: with all that there are.
        fewest: End before the first group that weighs less: those after it weigh no more.

    Returns:
        The weighted means of the groups, in the order in which they were found (ties: the first vector).
    """
    weights = np.ones(len(embedded), np.int64) if counts is None else counts
    rows = unit(embedded)
    near = rows @ rows.T >= threshold - TIE
    np.fill_diagonal(near, True)  # a cosine of a vector to itself may be rounded to less than 1
    left = np.ones(len(embedded), bool)
    reach = near @ weights  # of each vector: what is left within the threshold of it weighs
    means: list[np.ndarray] = []
    sizes: list[np.int64] = []
    while left.any() and len(means) != most:
        heaviest = np.where(left, reach, -1).argmax()
        group = near[heaviest] & left
        size = weights[group].sum()
        if size < fewest:
            break
        means.append((weights[group, None] * embedded[group].astype(np.float64)).sum(axis=0) / size)
        sizes.append(size)
        left &= ~group
        reach -= near[:, group] @ weights[group]
    return Prototypes(np.array(means, np.float32).reshape(-1, embedded.shape[1]), np.array(sizes, np.int64))


def kinds_of(embedded: np.ndarray, of_a_client: float = OF_A_CLIENT) -> Prototypes:
    """A client's kinds of instructions: those of at least `FEWEST` instructions, at most `MAX_KINDS`; the mean without any.

    Args:
        embedded: [n, D], embeddings of its instructions.
        of_a_client: The cosine from which they are of one kind.
    """
    rows, counts = np.unique(embedded, axis=0, return_counts=True)
    if len(rows) > MOST_COMPARED:  # all pairs are compared
        chosen = np.linspace(0, len(rows) - 1, MOST_COMPARED).astype(np.int64)
        rows, counts = rows[chosen], counts[chosen]
    found = prototypes_of(rows, of_a_client, counts, MAX_KINDS, FEWEST)
    if len(found.counts):
        return Prototypes(on_grid(found.means), found.counts)
    mean = embedded.mean(axis=0, keepdims=True, dtype=np.float64)
    return Prototypes(on_grid(mean), np.array([len(embedded)], np.int64))


def merged(parts: Sequence[Prototypes], of_one_kind: float = OF_ONE_KIND) -> Prototypes:
    """Kinds of instructions from several sides as one: those near to each other become one kind.

    Args:
        parts: At least one; a single one that is not empty is left as it is.
        of_one_kind: The cosine from which two kinds are one.
    """
    if sum(len(part.counts) > 0 for part in parts) < 2:
        return max(parts, key=lambda part: len(part.counts))
    means, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("means", "counts"))
    return prototypes_of(means, of_one_kind, np.minimum(counts, MAX_TOTAL // len(counts)))


def nearest_cosines(embedded: np.ndarray, subspaces: Sequence[Prototypes]) -> np.ndarray:
    """For each of [n, D] and each of K subspaces the largest cosine to a prototype of it, -1 without any; float64 [n, K]."""
    rows = unit(embedded)
    return np.stack([(rows @ unit(prototypes.means).T).max(axis=1, initial=-1.0) for prototypes in subspaces], axis=1)
