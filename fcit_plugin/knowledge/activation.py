"""From an instruction's identity token to one weight per subspace (DISCO, arXiv 2503.12897)."""

import threading
from collections.abc import Sequence

import numpy as np

from ..errors import FcitError
from .identity_tokens import SubspaceTokens
from .image_tokens import Encoder, Samples, encode
from .prototypes import nearest_cosines
from .vectors import unit


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

    softmax: w_k = softmax over the used subspaces of cos(u, g_k) / temperature; argmax: 1 for the nearest;
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
        weights = np.eye(len(used))[masked.argmax(axis=1)]
    elif mode == "cosine":
        weights = np.where(used[None], cosines, 0.0)
    elif mode == "concat":
        weights = np.broadcast_to(used.astype(np.float64), cosines.shape)
    else:
        raise FcitError(f"Unknown activation {mode!r}; valid: softmax, argmax, cosine, concat.")
    found: np.ndarray = weights.astype(np.float32)
    return found


class Router:
    """From instructions to activation weights: what evaluation and serving share.

    Args:
        encoder: Identity encoder.
        tokens: The subspaces' identity tokens and counts; a subspace with count 0 is not used.
        mode: See :func:`activation_weights`.
        temperature: See :func:`activation_weights`.
        fallback: An instruction whose largest cosine is below it is left to the base model: all its weights are 0.
            None: never.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: SubspaceTokens,
        mode: str,
        temperature: float,
        fallback: float | None = None,
    ) -> None:
        self.encoder = encoder
        self.tokens = tokens
        self.mode = mode
        self.temperature = temperature
        self.fallback = fallback
        self._encoding = threading.Lock()  # fast tokenizers refuse two threads that pad and truncate at a time

    def weights(self, samples: Sequence[str] | Samples) -> np.ndarray:
        """Weights of the subspaces for each sample, float32 [n, K].

        Args:
            samples: Instructions, or what else the encoder takes (:func:`fcit_plugin.knowledge.image_tokens.encoder_inputs`).
        """
        with self._encoding:
            embedded = encode(self.encoder, samples)
        return self.weights_of(embedded)

    def weights_of(self, embedded: np.ndarray) -> np.ndarray:
        """Weights of the subspaces for identity tokens u [n, D], float32 [n, K]."""
        used = self.tokens.counts > 0
        if self.tokens.kinds is None:
            cosines = cosine_matrix(embedded, self.tokens.tokens)
        else:
            cosines = nearest_cosines(embedded, self.tokens.kinds)
        weights = weights_of_cosines(cosines, used, mode=self.mode, temperature=self.temperature)
        if self.fallback is not None:
            nearest = cosines[:, used].max(axis=1)
            weights = np.where(nearest[:, None] < self.fallback, np.float32(0), weights)
        return weights
