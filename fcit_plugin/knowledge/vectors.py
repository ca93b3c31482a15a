"""Directions of vectors."""

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1 in float64; a zero row (a sum of tokens may cancel out) stays zero."""
    rows = rows.astype(np.float64)
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)
