"""What there may be once alone, ever, as digests by which a site remembers it."""

import hashlib
from collections.abc import Mapping

import numpy as np

from .masks import digest


def session(name: str) -> bytes:
    """A session."""
    return digest("begun", name)


def round(run: str, stage: int, round: int) -> bytes:
    """A round in which sums were opened."""
    return digest("round", run, stage, round)


def in_sum(update: str, *, shared: bool) -> bytes:
    """An update in an opened sum of a subspace, or of that over all, by its digest in hexadecimal digits."""
    return digest("update", "shared" if shared else "own", update)


def update(weight: int, arrays: Mapping[str, np.ndarray], session: str) -> bytes:
    """A digest of an update: of its numbers, not of the run that it was made in.

    An update that is nothing tells nothing of its client however often it is in a sum, so it is another one in each session.

    Args:
        weight: Its weight.
        arrays: Its numbers, by key.
        session: The session.
    """
    found = hashlib.sha256(digest(weight, session if not any(array.any() for array in arrays.values()) else ""))
    for key, array in sorted(arrays.items()):
        found.update(digest(key, array.shape))
        found.update(np.ascontiguousarray(array, np.float32).tobytes())
    return found.digest()
