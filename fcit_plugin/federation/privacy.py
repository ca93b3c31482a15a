"""Client-level differential privacy: Gaussian noise on clipped updates and on identity tokens.

Updates (central, at the server): the mechanism of DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963), all clients with
the same weight. Flower's wrapper ``DifferentialPrivacyServerSideFixedClipping`` does not fit: it takes a fixed number
of clients where each subspace has its own, adds the noise after the strategy, where the server's optimizer has changed
the scale, and draws it from NumPy's global generator. Its helper functions are used.

Identity tokens (local, at each client): scaled to length 1, so that only the direction counts, with noise of the
client's own. A client has one noisy token for each of its tasks as long as its records stay: more draws could be averaged. Of
other records it is a further release, with noise of its own: the difference of two with the same noise would tell what has
changed.

Where the noise comes from: :mod:`.noise`.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.differential_privacy import compute_clip_model_update, get_norm

from ..arguments import FcitArguments
from ..scenario.streams import Stream
from .arrays import numbers_of
from .messages import ARRAYS, METRICS, NUM_EXAMPLES, arrays_of, metrics_of, returned, weight_names
from .noise import MARGIN, Noise


def tells_own_cosines(args: FcitArguments, by_tokens: bool) -> bool:
    """Whether clients tell how near their instructions lie to their tokens: not where there is noise, which does not cover it.

    Args:
        args: The fcit keys.
        by_tokens: Whether tokens say something of records, and decide who trains what.
    """
    return by_tokens and args.fcit_identity_noise is None and args.fcit_dp_noise_multiplier is None


@dataclass(frozen=True)
class UpdatePrivacy:
    """What the server does to the updates of a round before its rule sees them.

    Attributes:
        clipping_norm: C, largest L2 norm that an update keeps.
        noise_multiplier: z; the sum of a subspace's updates gets noise of standard deviation z C in each number.
        noise: Where the noise comes from; None without any.
    """

    clipping_norm: float
    noise_multiplier: float
    noise: Noise | None

    @classmethod
    def from_args(cls, args: FcitArguments, noise: Noise | None) -> "UpdatePrivacy | None":
        """What a recipe asks for; None if nothing."""
        if args.fcit_dp_clipping_norm is None:
            return None
        return cls(args.fcit_dp_clipping_norm, args.fcit_dp_noise_multiplier or 0.0, noise)

    def clip(self, reply: Message, request: Message) -> Message:
        """A reply whose update has at most norm C, all its tensors together, and whose weight is 1.

        An update within the norm keeps its bits.
        """
        names = weight_names(request)
        keys = [(name, key) for name in names for key in returned(request, name)]
        sent = [numbers_of(arrays_of(request, name)[key]).astype(np.float64) for name, key in keys]
        trained = [numbers_of(arrays_of(reply, name)[key]).astype(np.float64) for name, key in keys]
        content = RecordDict(dict(reply.content))
        content[METRICS] = MetricRecord({**metrics_of(reply), NUM_EXAMPLES: 1})
        if self.noise is not None and self.noise.exact:
            scaled = _within(trained, sent, self.clipping_norm * (1 - MARGIN))
        else:
            scaled = _scaled(trained, sent, self.clipping_norm)
        if scaled is not None:
            clipped = dict(zip(keys, scaled, strict=True))
            for name in names:
                content[name] = ArrayRecord({key: Array(clipped[name, key]) for key in returned(request, name)})
        return Message(content, reply_to=request)

    def release(
        self, parts: Sequence[Message], request: Message, name: str, stage: int, round: int, owner: int | str
    ) -> Message:
        """The noisy mean of the clipped updates of one subspace, or of the shared trainables, as one reply.

        Args:
            parts: One message for each client, with one ArrayRecord (:func:`.messages.part_of`).
            request: A message that the mean is a reply to; all of them were sent the same weights.
            name: The record of it that the weights were in.
            stage: Stage.
            round: Round.
            owner: The subspace, or anything that is not a number for the shared trainables.
        """
        assert self.noise is not None  # else there is nothing to hide in
        where = (stage, round, 0, owner) if isinstance(owner, int) else (stage, round, 1)
        sent, noisy = arrays_of(request, name), self.noise.at(Stream.UPDATE_NOISE, *where)
        # by the updates, too: a round that is done again over others has other noise, which does not cancel in the difference
        summed = digest_of_updates(map(arrays_of, parts)) if self.noise.exact else ""  # which noise from a seed does not ask
        released = {}
        for key in sorted(arrays_of(parts[0])):
            trained = [numbers_of(arrays_of(part)[key]) for part in parts]
            deviation = self.noise_multiplier * self.clipping_norm
            mean = noisy.mean(f"{summed} {key}", trained, numbers_of(sent[key]), deviation)
            released[key] = Array(mean.astype(np.float32))
        content = RecordDict({ARRAYS: ArrayRecord(released), METRICS: MetricRecord({NUM_EXAMPLES: 1})})
        return Message(content, reply_to=request)


def _scaled(trained: list[np.ndarray], sent: list[np.ndarray], norm: float) -> list[np.ndarray] | None:
    """float32 weights whose update has this norm but for rounding; None if it is within it as it is."""
    if get_norm(_changes(trained, sent)) <= norm:
        return None
    compute_clip_model_update(trained, sent, norm)
    return [value.astype(np.float32) for value in trained]


def _within(trained: list[np.ndarray], sent: list[np.ndarray], norm: float) -> list[np.ndarray] | None:
    """float32 weights whose update is within this norm after rounding, too; None if it is as it is."""
    changes = _changes(trained, sent)
    own = _norm(changes)
    if own <= norm:
        return None
    less = 0.0
    while less < norm:  # rounding goes in steps, so that a little less may round to the same
        factor = (norm - less) / own
        scaled = [(old + change * factor).astype(np.float32) for change, old in zip(changes, sent, strict=True)]
        beyond = _norm(_changes(scaled, sent)) - norm
        if beyond <= 0:
            return scaled
        less = max(2 * less, beyond)
    return [old.astype(np.float32) for old in sent]  # so small a norm that rounding alone leaves it


def _changes(trained: list[np.ndarray], sent: list[np.ndarray]) -> list[np.ndarray]:
    return [new - old for new, old in zip(trained, sent, strict=True)]


def _norm(values: list[np.ndarray]) -> float:
    """L2 norm of all together; NumPy adds up in pairs, so that what is rounded off is far less than MARGIN."""
    return math.sqrt(math.fsum(float(np.square(value).ravel().sum()) for value in values))


def digest_of_updates(updates: Iterable[Mapping[str, Array]]) -> str:
    """What tells some updates in their order from any others, to go into the key of the noise on them.

    Args:
        updates: The arrays of each by name.
    """
    digest = hashlib.sha256()
    for update in updates:
        digest.update(f"{len(update)} arrays;".encode())
        for key, array in sorted(update.items()):
            digest.update(f"{key} {array.shape};".encode() + numbers_of(array).tobytes())
    return digest.hexdigest()


def noisy_token(mean: np.ndarray, deviation: float, noise: Noise, client: int, task: int, records: int) -> np.ndarray:
    """An identity token of length 1 with Gaussian noise on it.

    Args:
        mean: float32 [D], m_c.
        deviation: Standard deviation of the noise in each number.
        noise: Where the client's noise comes from.
        client: The client.
        task: What it works on.
        records: What tells its records from any others (:func:`digest_of_records`): two tokens with the same noise would
            tell by their difference what has changed.

    Returns:
        float32 [D]; the same for the same client, task and records.
    """
    direction = mean.astype(np.float64) / np.linalg.norm(mean.astype(np.float64))
    if noise.exact:
        direction *= 1 - MARGIN
    noisy = noise.at(Stream.TOKEN_NOISE, client, task, records)
    return noisy.mean("token", [direction], np.zeros_like(direction), deviation).astype(np.float32)


def digest_of_records(texts: Iterable[str]) -> int:
    """What tells some records from any others by what a token is made of, in whatever order they come; 63 bits.

    Args:
        texts: What each record says.
    """
    each = sorted(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    return int.from_bytes(hashlib.sha256(b"".join(each)).digest()[:8], "big") >> 1
