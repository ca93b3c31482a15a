"""Whitening: from vectors is taken away what public instructions share, and how they vary within a kind counts less."""

from dataclasses import dataclass

import numpy as np

from .vectors import unit


@dataclass(frozen=True, eq=False)
class Whitening:
    """x -> (S + m I)^(-1/2) (x - c), up to its length.

    c is the mean of public vectors, S = U diag(s) U' their covariance around the means of their kinds and m the mean of its
    D variances, tr(S) / D. So a direction in which wordings of one kind differ, as with politeness around them, counts less.
    As S has few directions, U [D, d] is kept and no matrix [D, D]:

        sqrt(m) (S + m I)^(-1/2) = I - U diag(1 - sqrt(m / (s + m))) U'

    Attributes:
        center: c, float32 [D].
        directions: U, float32 [D, d], orthonormal columns.
        loss: 1 - sqrt(m / (s + m)), float32 [d], from 0 to 1.
    """

    center: np.ndarray
    directions: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, kinds: np.ndarray) -> "Whitening":
        """Learn c, S and m.

        Args:
            kinds: [kinds, wordings, D].
        """
        rows = kinds.astype(np.float64)
        within = (rows - rows.mean(axis=1, keepdims=True)).reshape(-1, rows.shape[-1])
        # the eigenvalues of S by the smaller of the two matrices of products
        values, left = np.linalg.eigh(within @ within.T / len(within))
        kept = values > values[-1] * 1e-9
        values, left = values[kept], left[:, kept]
        directions = within.T @ left / np.sqrt(values * len(within))
        mean = values.sum() / rows.shape[-1]
        loss = 1 - np.sqrt(mean / (values + mean))
        return cls(*(part.astype(np.float32) for part in (rows.mean(axis=(0, 1)), directions, loss)))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Vectors [n, D], whitened and of length 1, float64."""
        rows = rows.astype(np.float64) - self.center
        return unit(rows - (rows @ self.directions * self.loss) @ self.directions.T)
