"""Directions of vectors, and what keeps their last digits from deciding anything.

Another number of threads, another processor or a graphics card adds up in another order, and the last digits of a sum are
others. So tokens are rounded before they are kept or sent (:func:`on_grid`), and cosines that differ by less than `TIE` count
as equal wherever something is decided by them. docs/guide/reliability.md says what follows from that and what does not.
"""

import numpy as np

#: A token's numbers are multiples of its largest one's power of two, times 2^-GRID_BITS.
GRID_BITS = 12
#: Cosines that differ by no more are equal: neither equal instructions nor a token between two subspaces wait for rounding.
TIE = 1e-6


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1 in float64; a zero row (a sum of tokens may cancel out) stays zero."""
    rows = rows.astype(np.float64)
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def on_grid(rows: np.ndarray) -> np.ndarray:
    """Round vectors [..., D] to a grid of their own, float32; what lies on it stays.

    The step is 2^-`GRID_BITS` times the power of two above the largest absolute number. A cosine moves by some 1e-5 at most.
    """
    rows = np.asarray(rows, np.float32)
    largest = np.maximum(rows.max(axis=-1, keepdims=True), -rows.min(axis=-1, keepdims=True))
    mantissa, exponent = np.frexp(largest)
    exponent = exponent + (np.rint(np.ldexp(mantissa, GRID_BITS)) == 2**GRID_BITS)  # it is rounded up to a power of two
    scaled: np.ndarray = np.ldexp(rows, GRID_BITS - exponent)
    np.rint(scaled, out=scaled)
    scaled += 0  # there is one zero
    np.ldexp(scaled, exponent - GRID_BITS, out=scaled)
    return scaled


def first_largest(cosines: np.ndarray) -> np.ndarray:
    """For each row of [n, K] the first that is as large as the largest one, but for `TIE`; int64 [n]."""
    found: np.ndarray = (cosines >= cosines.max(axis=-1, keepdims=True) - TIE).argmax(axis=-1)
    return found
