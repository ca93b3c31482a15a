"""Client-level differential privacy: Gaussian noise on clipped updates and on identity tokens.

Updates (central, at the server): the mechanism of DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963), all clients with
the same weight. Flower's wrapper ``DifferentialPrivacyServerSideFixedClipping`` does not fit: it takes a fixed number
of clients where each subspace has its own, adds the noise after the strategy, where the server's optimizer has changed
the scale, and draws it from NumPy's global generator. Its helper functions are used.

Identity tokens (local, at each client): scaled to length 1, so that only the direction counts, with noise of the
client's own. A client has one noisy token for each of its tasks, ever: more draws could be averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.differential_privacy import compute_clip_model_update, compute_stdv, get_norm

from ..arguments import FcitArguments
from ..scenario.streams import Stream, generator
from .messages import ARRAYS, METRICS, NUM_EXAMPLES, arrays_of, metrics_of, returned, weight_names


@dataclass(frozen=True)
class UpdatePrivacy:
    """What the server does to the updates of a round before its rule sees them.

    Attributes:
        clipping_norm: C, largest L2 norm that an update keeps.
        noise_multiplier: z; the sum of a subspace's updates gets noise of standard deviation z C in each number.
        seed: Seed of the noise, 0 or more.
    """

    clipping_norm: float
    noise_multiplier: float
    seed: int

    @classmethod
    def from_args(cls, args: FcitArguments, seed: int) -> "UpdatePrivacy | None":
        """What a recipe asks for; None if nothing."""
        if args.fcit_dp_clipping_norm is None:
            return None
        return cls(args.fcit_dp_clipping_norm, args.fcit_dp_noise_multiplier or 0.0, noise_seed(args, seed))

    def clip(self, reply: Message, request: Message) -> Message:
        """A reply whose update has at most norm C, all its tensors together, and whose weight is 1.

        An update within the norm keeps its bits.
        """
        names = weight_names(request)
        keys = [(name, key) for name in names for key in returned(request, name)]
        sent = [arrays_of(request, name)[key].numpy().astype(np.float64) for name, key in keys]
        trained = [arrays_of(reply, name)[key].numpy().astype(np.float64) for name, key in keys]
        content = RecordDict(dict(reply.content))
        content[METRICS] = MetricRecord({**metrics_of(reply), NUM_EXAMPLES: 1})
        if get_norm([new - old for new, old in zip(trained, sent, strict=True)]) > self.clipping_norm:
            compute_clip_model_update(trained, sent, self.clipping_norm)
            clipped = dict(zip(keys, trained, strict=True))
            for name in names:
                content[name] = ArrayRecord(
                    {key: Array(clipped[name, key].astype(np.float32)) for key in returned(request, name)}
                )
        return Message(content, reply_to=request)

    def release(self, parts: Sequence[Message], request: Message, stage: int, round: int, owner: int | str) -> Message:
        """The noisy mean of the clipped updates of one subspace, or of the shared trainables, as one reply.

        Args:
            parts: One message for each client, with one ArrayRecord (:func:`.messages.part_of`).
            request: A message that the mean is a reply to.
            stage: Stage.
            round: Round.
            owner: The subspace, or anything that is not a number for the shared trainables.
        """
        where = (stage, round, 0, owner) if isinstance(owner, int) else (stage, round, 1)
        drawn = generator(self.seed, Stream.UPDATE_NOISE, *where)
        deviation = compute_stdv(self.noise_multiplier, self.clipping_norm, len(parts))
        released = {}
        for key in sorted(arrays_of(parts[0])):
            mean = np.mean([arrays_of(part)[key].numpy() for part in parts], axis=0, dtype=np.float64)
            released[key] = Array((mean + drawn.normal(0.0, deviation, mean.shape)).astype(np.float32))
        content = RecordDict({ARRAYS: ArrayRecord(released), METRICS: MetricRecord({NUM_EXAMPLES: 1})})
        return Message(content, reply_to=request)


def noisy_token(mean: np.ndarray, deviation: float, seed: int, client: int, task: int) -> np.ndarray:
    """An identity token of length 1 with Gaussian noise on it.

    Args:
        mean: float32 [D], m_c.
        deviation: Standard deviation of the noise in each number.
        seed: Seed of the client's noise, 0 or more.
        client: The client.
        task: What it works on.

    Returns:
        float32 [D]; the same for the same client and task.
    """
    direction = mean.astype(np.float64) / np.linalg.norm(mean.astype(np.float64))
    noise = generator(seed, Stream.TOKEN_NOISE, client, task).normal(0.0, deviation, mean.shape)
    return (direction + noise).astype(np.float32)


def noise_seed(args: FcitArguments, seed: int) -> int:
    """The seed of the noise: the secret one, or that of the run."""
    return seed if args.fcit_dp_secret is None else args.fcit_dp_secret
