"""From an instruction's identity token to one weight per subspace (DISCO, arXiv 2503.12897)."""

import threading
from collections.abc import Sequence

import numpy as np

from ..errors import FcitError
from .identity_tokens import SubspaceTokens
from .image_tokens import Encoder
from .prototypes import nearest_cosines
from .turns import AUTO, NEAR, Pixels, Turns, encoded_turns, mean_tokens, turns_that_count
from .vectors import TIE, first_largest, unit


def cosine_matrix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines of all pairs of rows, float64 [n, K].

    Args:
        left: [n, D].
        right: [K, D].
    """
    cosines: np.ndarray = unit(left) @ unit(right).T
    return cosines


def activation_weights(
    instructions: np.ndarray, tokens: np.ndarray, used: np.ndarray, *, mode: str, temperature: float
) -> np.ndarray:
    """Weights w of the subspaces, one row per sample.

    softmax: w_k = softmax over the used subspaces of cos(u, g_k) / temperature; argmax: 1 for the nearest (ties: the first);
    cosine: w_k = cos(u, g_k); concat: 1 for all. Unused subspaces always weigh 0.

    Args:
        instructions: The samples' own identity tokens u, [n, D].
        tokens: The subspaces' identity tokens g, [K, D].
        used: bool [K], False for a subspace that holds nothing.
        mode: softmax, argmax, cosine or concat.
        temperature: Temperature of the softmax; 0.05 in the paper.

    Returns:
        float32 [n, K].

    Raises:
        FcitError: No subspace is used, or the mode is unknown.
    """
    return weights_of_cosines(cosine_matrix(instructions, tokens), used, mode=mode, temperature=temperature)


def weights_of_cosines(cosines: np.ndarray, used: np.ndarray, *, mode: str, temperature: float) -> np.ndarray:
    """Weights of the subspaces from how near the samples are to each, float32 [n, K]; see :func:`activation_weights`.

    Args:
        cosines: [n, K].
        used: bool [K].
        mode: softmax, argmax, cosine or concat.
        temperature: Temperature of the softmax.

    Raises:
        FcitError: No subspace is used, or the mode is unknown.
    """
    if not used.any():
        raise FcitError("No subspace is in use yet; nothing can be activated.")
    masked = np.where(used[None], cosines, -np.inf)
    if mode == "softmax":
        exponent = np.exp((masked - masked.max(axis=1, keepdims=True)) / temperature)
        weights = exponent / exponent.sum(axis=1, keepdims=True)
    elif mode == "argmax":
        weights = np.eye(len(used))[first_largest(masked)]
    elif mode == "cosine":
        weights = np.where(used[None], cosines, 0.0)
    elif mode == "concat":
        weights = np.broadcast_to(used.astype(np.float64), cosines.shape)
    else:
        raise FcitError(f"Unknown activation {mode!r}; valid: softmax, argmax, cosine, concat.")
    found: np.ndarray = weights.astype(np.float32)
    return found


class Router:
    """From conversations to activation weights: what evaluation and serving share.

    Args:
        encoder: Identity encoder.
        tokens: The subspaces' identity tokens and counts; a subspace with count 0 is not used.
        mode: See :func:`activation_weights`.
        temperature: See :func:`activation_weights`.
        turns: Which turns of a conversation count: first, latest, mean or auto (``fcit_identity_turns``).
        fallback: A conversation whose largest cosine is below it is left to the base model: all its weights are 0.
            None: never.
        routed: bool [K], False for a subspace that no conversation is to be answered by, however near it is; None: all may.
            Where none of them is in use, everything is left to the base model.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: SubspaceTokens,
        mode: str,
        temperature: float,
        turns: str,
        fallback: float | None = None,
        routed: np.ndarray | None = None,
    ) -> None:
        self.encoder = encoder
        self.tokens = tokens
        self.mode = mode
        self.temperature = temperature
        self.turns = turns
        self.fallback = fallback
        self.used: np.ndarray = (tokens.counts > 0) & (True if routed is None else routed)
        self._encoding = threading.Lock()  # fast tokenizers refuse two threads that pad and truncate at a time

    def weights(self, conversations: Sequence[Turns], pixels: Pixels | None = None) -> np.ndarray:
        """Weights of the subspaces for each conversation, float32 [n, K].

        Args:
            conversations: What their users say.
            pixels: Their images; None where there are none.
        """
        return self.weights_of(self.listen(conversations, pixels)[0])

    def listen(self, conversations: Sequence[Turns], pixels: Pixels | None = None) -> tuple[np.ndarray, list[Turns]]:
        """Identity tokens u of conversations, float32 [n, D], and the turns that they are made of; see :meth:`weights`."""
        with self._encoding:
            rows = encoded_turns(self.encoder, conversations, self.turns, pixels or (lambda: [None] * len(conversations)))
        counting = [turns_that_count(turns, self.turns) for turns in conversations]
        if self.turns == AUTO:
            chosen = [self._latest_near(part) for part in rows]
            rows = [part[i : i + 1] for part, i in zip(rows, chosen, strict=True)]
            counting = [turns[i : i + 1] for turns, i in zip(counting, chosen, strict=True)]
        return mean_tokens(rows), counting

    def _latest_near(self, turns: np.ndarray) -> int:
        """The latest turn that is near to a subspace; of tokens [t, D] that all are far, the one that is least so."""
        if len(turns) == 1 or not self.used.any():
            return len(turns) - 1
        nearest = self._cosines(turns)[:, self.used].max(axis=1)
        near = np.flatnonzero(nearest >= NEAR - TIE)
        return int(near[-1] if len(near) else first_largest(nearest))

    def weights_of(self, embedded: np.ndarray) -> np.ndarray:
        """Weights of the subspaces for identity tokens u [n, D], float32 [n, K]."""
        if not self.used.any() and (self.tokens.counts > 0).any():
            return np.zeros((len(embedded), len(self.used)), np.float32)
        cosines = self._cosines(embedded)
        weights = weights_of_cosines(cosines, self.used, mode=self.mode, temperature=self.temperature)
        if self.fallback is not None:
            nearest = cosines[:, self.used].max(axis=1)
            weights = np.where(nearest[:, None] < self.fallback - TIE, np.float32(0), weights)
        return weights

    def _cosines(self, embedded: np.ndarray) -> np.ndarray:
        """How near identity tokens [n, D] are to the subspaces, [n, K]."""
        if self.tokens.kinds is None:
            return cosine_matrix(embedded, self.tokens.tokens)
        return nearest_cosines(embedded, self.tokens.kinds)
