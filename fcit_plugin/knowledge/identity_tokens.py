"""Identity tokens (docs/guide/settings.md): what a client tells of its instructions, what the server keeps of each subspace."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import FcitError
from ..schema import LARGEST
from .own_cosines import Counts
from .prototypes import Prototypes


@dataclass(frozen=True, eq=False)
class ClientToken:
    """The identity token of one client in one round.

    Attributes:
        client: number of the client.
        mean: float32 [D], m_c, mean over the embeddings of the client's instructions; a read-only copy.
        count: q_c, embeddings in the mean, at least 1.
        num_examples: n_c, training examples of the client, at least 1.
        kinds: the kinds of instructions that the client has, None if it tells the mean alone.
        own_cosines: how near its instructions lie to these, None if it does not tell.

    Raises:
        FcitError: naming the client, if `mean` is not a vector, not finite or zero, or a count is below 1.
    """

    client: int
    mean: np.ndarray
    count: int
    num_examples: int
    kinds: Prototypes | None = None
    own_cosines: Counts | None = None

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # a number too large for float32 is reported as not finite
            mean = np.array(self.mean, np.float32)
        check_vector(mean, f"of client {self.client}")
        mean.setflags(write=False)
        object.__setattr__(self, "mean", mean)
        for name in ("count", "num_examples"):
            if getattr(self, name) < 1:
                raise FcitError(f"Client {self.client} reports {name} {getattr(self, name)}; it must be at least 1.")


@dataclass(frozen=True)
class WithoutToken:
    """A client that has too few records to tell a token of (``fcit_identity_min_records``).

    Attributes:
        client: number of the client.
        num_examples: n_c, training examples of the client.
        subspace: the one that it has picked by itself from the state's tokens; None: it was not asked, or none is its own.
    """

    client: int
    num_examples: int
    subspace: int | None = None


@dataclass(frozen=True, eq=False)
class SubspaceTokens:
    """The identity tokens of all K subspaces, the whole state of DKO.

    Attributes:
        sums: float32 [K, D], sum of q_c m_c over everything that subspace k received.
        counts: int64 [K], N_k, sum of q_c. 0 marks a subspace that is opened but received nothing yet.
        kinds: K times the kinds of instructions that a subspace received; None where clients tell their mean alone.

    Raises:
        FcitError: wrong shapes or dtypes, sums not finite, or a count that is negative or too large.
    """

    sums: np.ndarray
    counts: np.ndarray
    kinds: tuple[Prototypes, ...] | None = None

    def __post_init__(self) -> None:
        if self.sums.dtype != np.float32 or self.counts.dtype != np.int64:
            raise FcitError(
                f"Subspace tokens need float32 sums and int64 counts, not {self.sums.dtype} and {self.counts.dtype}."
            )
        if self.sums.ndim != 2 or self.counts.shape != self.sums.shape[:1]:
            raise FcitError(f"Subspace tokens need sums [K, D] and counts [K], not {self.sums.shape} and {self.counts.shape}.")
        if not np.isfinite(self.sums).all() or (self.counts < 0).any() or (self.counts > LARGEST).any():
            raise FcitError("Subspace tokens need finite sums and counts from 0 to 2^53.")
        if self.kinds is not None and [kinds.means.shape[1] for kinds in self.kinds] != [self.sums.shape[1]] * len(self.counts):
            raise FcitError(
                "Subspace tokens with kinds of instructions need those of every subspace, of the tokens' dimension."
            )

    @classmethod
    def empty(cls, dimension: int) -> "SubspaceTokens":
        """Return the state before the first round: no subspaces, tokens of `dimension` numbers."""
        return cls(np.zeros((0, dimension), np.float32), np.zeros(0, np.int64))

    @property
    def num_subspaces(self) -> int:
        """K."""
        return len(self.counts)

    @property
    def tokens(self) -> np.ndarray:
        """float32 [K, D], g_k = sum_k / N_k; zeros where N_k = 0."""
        tokens: np.ndarray = (self.sums.astype(np.float64) / np.maximum(self.counts, 1)[:, None]).astype(np.float32)
        return tokens

    def as_kinds(self) -> tuple[Prototypes, ...]:
        """What the tokens are where nothing is known but means: one kind for each subspace in use, none for the others."""
        rows = self.tokens
        return tuple(Prototypes(rows[k : k + (n > 0)], self.counts[k : k + (n > 0)]) for k, n in enumerate(self.counts))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the state as named arrays, for safetensors."""
        arrays = {"sums": self.sums, "counts": self.counts}
        if self.kinds is not None:
            arrays["kind_means"] = np.concatenate([self.sums[:0], *(kinds.means for kinds in self.kinds)])
            arrays["kind_counts"] = np.concatenate([self.counts[:0], *(kinds.counts for kinds in self.kinds)])
            arrays["kinds"] = np.array([len(kinds.counts) for kinds in self.kinds], np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "SubspaceTokens":
        """Rebuild the state from `to_arrays`."""
        kinds = None
        if "kinds" in arrays:
            ends = np.cumsum(arrays["kinds"])[:-1]
            parts = (np.split(arrays[name], ends) if len(arrays["kinds"]) else [] for name in ("kind_means", "kind_counts"))
            kinds = tuple(Prototypes(means, counts) for means, counts in zip(*parts, strict=True))
        return cls(arrays["sums"], arrays["counts"], kinds)


def check_vector(mean: np.ndarray, whose: str = "given") -> None:
    """Refuse a token that is not a vector, not finite or without a direction.

    Raises:
        FcitError: it is one of these; `whose` says whose it is.
    """
    if mean.ndim != 1:
        raise FcitError(f"The identity token {whose} must be a vector, not an array of shape {mean.shape}.")
    if not np.isfinite(mean).all():
        raise FcitError(f"The identity token {whose} is not finite.")
    if not mean.any():
        raise FcitError(f"The identity token {whose} is zero and has no direction.")
