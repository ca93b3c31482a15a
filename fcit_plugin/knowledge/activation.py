"""From an instruction's identity token to one weight per subspace (DISCO, arXiv 2503.12897)."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import getitem

import numpy as np

from ..errors import FcitError
from .identity_tokens import SubspaceTokens
from .image_tokens import Encoder, ImageEncoder
from .linkage import blocks
from .nearness import Nearness, nearness_of
from .own_cosines import BINS, SHOWN, Counts, quantile, told
from .prototypes import FEWEST, Prototypes, nearest_cosines
from .token_forms import FULL, TokenForm
from .turns import AUTO, FIRST, MEAN, Pixels, Turns, encoded_turns, forget, mean_tokens, turns_that_count, ways_to_tell
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


def own_counts(
    embedded: np.ndarray, mean: np.ndarray, kinds: Prototypes | None, nearness: Nearness, form: TokenForm
) -> Counts | None:
    """What a client tells of how near its instructions lie to what it tells of them; None of too few.

    Each is held against the mean of the others: a new question is not in the mean that it is held against, and of few records
    each is near to a mean that it is part of.

    Args:
        embedded: Their tokens, [n, D], unrounded.
        mean: Their mean, [D], unrounded.
        kinds: Their kinds, unrounded; None where the client tells the mean alone.
        nearness: The cosines of the encoder.
        form: What is told of mean and kinds.
    """
    counts, total = np.zeros(BINS, np.int64), len(embedded) * mean.astype(np.float64)
    for block in blocks(len(embedded)):  # cosines are taken in float64, of which those of all records would be gigabytes
        rows = embedded[block]
        cosines = (unit(rows) * unit(form.told(total - rows))).sum(axis=1)
        if kinds is not None:
            of_kinds = nearest_cosines(rows, [form.told_kinds(kinds)])[:, 0]
            cosines = np.maximum(cosines, of_kinds) if nearness.mean_too else of_kinds
        places = np.floor((form.cosines(cosines) + 1 + TIE) * (BINS / 2)).astype(np.int64)
        counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)
    return told(counts.tolist(), FEWEST)


@dataclass(frozen=True, eq=False)
class Distance:
    """How far questions are from what a run learned.

    Attributes:
        cosine: Of each to its nearest subspace, float64 [n].
        subspace: That subspace, int64 [n].
        own: The cosine that 99 % of this subspace's own instructions have, float64 [n]; not a number where that is not known.
        limit: A question with a smaller cosine is far, float64 [n]; not a number where there is no such limit.
    """

    cosine: np.ndarray
    subspace: np.ndarray
    own: np.ndarray
    limit: np.ndarray

    @property
    def is_far(self) -> np.ndarray:
        """Which questions are far, bool [n]."""
        found: np.ndarray = self.cosine < self.limit - TIE  # nothing is smaller than what is not a number
        return found


@dataclass(frozen=True, eq=False)
class Weighed:
    """What questions are to a router.

    Attributes:
        cosines: How near each is to each subspace, [n, K].
        weights: Of the subspaces for each, float32 [n, K].
        distance: How far each is from what the run learned.
    """

    cosines: np.ndarray
    weights: np.ndarray
    distance: Distance


class Router:
    """From conversations to activation weights: what evaluation and serving share.

    Args:
        encoder: Identity encoder.
        tokens: The subspaces' identity tokens and counts; a subspace with count 0 is not used.
        mode: See :func:`activation_weights`.
        temperature: See :func:`activation_weights`.
        turns: Which turns of a conversation count: first, latest, mean or auto (``fcit_identity_turns``).
        fallback: A conversation whose largest cosine is below it is left to the base model: all its weights are 0.
            auto: the encoder's own (:attr:`.nearness.Nearness.far`), or where it is lower, the cosine that 99 % of each
            subspace's own instructions have. None: never.
        routed: bool [K], False for a subspace that no conversation is to be answered by, however near it is; None: all may.
            Where none of them is in use, everything is left to the base model.
        form: What clients have told of their tokens; what is asked stays unrounded.
        own_cosines: How near the instructions of subspaces lie to these, of those where it is known.

    Raises:
        FcitError: ``fallback`` is auto, and the encoder has no such cosine.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: SubspaceTokens,
        mode: str,
        temperature: float,
        turns: str,
        fallback: float | str | None = None,
        routed: np.ndarray | None = None,
        form: TokenForm = FULL,
        own_cosines: Mapping[int, Counts] | None = None,
    ) -> None:
        self.encoder = encoder
        self.form = form
        self.tokens = tokens
        self.mode = mode
        self.temperature = temperature
        self.turns = turns
        self.used: np.ndarray = (tokens.counts > 0) & (True if routed is None else routed)
        self.nearness = nearness_of(encoder)
        known = own_cosines or {}
        lowest = (quantile(known[k], SHOWN[0]) if k in known else None for k in range(tokens.num_subspaces))
        self._own: np.ndarray = np.array([np.nan if cosine is None else cosine for cosine in lowest], np.float64)
        self.fallback = self._own_far() if isinstance(fallback, str) else fallback
        self._encoding = threading.Lock()  # fast tokenizers refuse two threads that pad and truncate at a time

    def weights(self, conversations: Sequence[Turns], pixels: Pixels | None = None) -> np.ndarray:
        """Weights of the subspaces for each conversation, float32 [n, K].

        Args:
            conversations: What their users say.
            pixels: Their images; None where there are none.
        """
        return self.weights_of(self.listen(conversations, pixels)[0])

    def listen(self, conversations: Sequence[Turns], pixels: Pixels | None = None) -> tuple[np.ndarray, list[Turns]]:
        """Identity tokens u of conversations, float32 [n, D], and the turns that they are made of; see :meth:`weights`.

        Where the encoder's tokens allow it, a turn is told by itself or by that one of its sentences which is nearest to a
        subspace: what people say around an instruction takes a token away from it.
        """
        rule = FIRST if isinstance(self.encoder, ImageEncoder) else self.turns  # it reads no text: one turn is as good as many
        counting = [turns_that_count(turns, rule) for turns in conversations]
        ways = [[ways_to_tell(self.encoder, text) for text in turns] for turns in counting]
        given = [tuple(text for way in turn for text in way) for turn in ways]
        with self._encoding:
            encoded = encoded_turns(self.encoder, given, MEAN, pixels or (lambda: [None] * len(conversations)))
        rows = [self.form.mixed(row) for row in encoded]
        found, decided = [], []
        for part, turns in zip(rows, ways, strict=True):
            each = np.split(part, np.cumsum([len(way) for way in turns])[:-1])
            best = [self._nearest_way(way) for way in each]
            told, texts = np.stack([way[i] for way, i in zip(each, best, strict=True)]), [*map(getitem, turns, best)]
            if rule == AUTO:
                i = self._latest_near(told)
                told, texts = told[i : i + 1], texts[i : i + 1]
            found.append(told)
            decided.append(tuple(texts))
        return mean_tokens(found), decided

    def forget(self) -> None:
        """Drop what the encoder keeps of what was asked before; see :func:`.turns.forget`."""
        with self._encoding:
            forget(self.encoder)

    def know(self, conversations: Sequence[Turns]) -> None:
        """Encode what conversations may be told by ahead, where the encoder can keep it.

        Processes that share a model's weights (ZeRO-3) do so together: afterwards each routes conversations of its own.
        """
        if (know := getattr(self.encoder, "know", None)) is not None:
            with self._encoding:
                know([way for turns in conversations for text in turns for way in ways_to_tell(self.encoder, text)])

    def _nearest_way(self, ways: np.ndarray) -> int:
        """The first of tokens [w, D] that is as near to a subspace as any of them is."""
        if len(ways) == 1 or not self.used.any():
            return 0
        return int(first_largest(self.cosines(ways)[:, self.used].max(axis=1)))

    def _latest_near(self, turns: np.ndarray) -> int:
        """The latest turn that is near to a subspace; of tokens [t, D] that all are far, the one that is least so."""
        if len(turns) == 1 or not self.used.any():
            return len(turns) - 1
        nearest = self.cosines(turns)[:, self.used].max(axis=1)
        near = np.flatnonzero(nearest >= self.nearness.turn - TIE)
        return int(near[-1] if len(near) else first_largest(nearest))

    def weigh(self, embedded: np.ndarray) -> Weighed:
        """All that a router says of identity tokens u [n, D], by cosines that are taken once."""
        cosines = self.cosines(embedded)
        return Weighed(cosines, self._weights(cosines), self._distance(cosines))

    def weights_of(self, embedded: np.ndarray) -> np.ndarray:
        """Weights of the subspaces for identity tokens u [n, D], float32 [n, K]."""
        return self._weights(self.cosines(embedded))

    def _weights(self, cosines: np.ndarray) -> np.ndarray:
        if not self.used.any() and (self.tokens.counts > 0).any():
            return np.zeros(cosines.shape, np.float32)
        weights = weights_of_cosines(cosines, self.used, mode=self.mode, temperature=self.temperature)
        if self.fallback is not None:
            nearest = cosines[:, self.used].max(axis=1)
            weights = np.where(nearest[:, None] < self.fallback - TIE, np.float32(0), weights)
        return weights

    def far(self, embedded: np.ndarray) -> np.ndarray:
        """Whether identity tokens u [n, D] look like those of none of the run's kinds, bool [n]; see :meth:`distance`."""
        return self.distance(embedded).is_far

    def distance(self, embedded: np.ndarray) -> Distance:
        """How far identity tokens u [n, D] are from what the run learned.

        A question is far that is farther from its nearest subspace than 99 % of the subspace's own instructions; where it is
        not known how far these are, by the encoder's own cosine if it has one. Below the threshold of a fallback every one is.
        """
        return self._distance(self.cosines(embedded))

    def _distance(self, cosines: np.ndarray) -> Distance:
        if not self.used.any():
            nothing = np.full(len(cosines), np.nan)
            return Distance(nothing, np.zeros(len(cosines), np.int64), nothing, nothing)
        cosines = np.where(self.used, cosines, -np.inf)
        nearest = first_largest(cosines)
        own = self._own[nearest]
        cut = self.nearness.far if self.fallback is None else self.fallback
        if cut is None:
            limit = own
        elif self.fallback is None:
            limit = np.where(np.isnan(own), cut, own)
        else:
            limit = np.fmax(own, cut)
        return Distance(cosines.max(axis=1), nearest, own, limit)

    def _own_far(self) -> float:
        """The cosine of ``auto``: what a run's own clients ask is never left to the base model by it."""
        if self.nearness.far is None:
            raise FcitError(
                "`fcit_fallback_threshold: auto` has no cosine for the tokens of this run's identity encoder: give a number, "
                "or make the run with `fcit_identity_encoder: prompt` or minilm, which have one."
            )
        return float(np.fmin.reduce([self.nearness.far, *self._own[self.used]]))

    def cosines(self, embedded: np.ndarray) -> np.ndarray:
        """How near identity tokens [n, D] are to the subspaces, [n, K]."""
        kinds = self.tokens.kinds
        of_means = cosine_matrix(embedded, self.tokens.tokens) if kinds is None or self.nearness.mean_too else -np.inf
        found: np.ndarray = np.asarray(of_means if kinds is None else np.maximum(nearest_cosines(embedded, kinds), of_means))
        return self.form.cosines(found)
