"""What a site does to its own update before it leaves: a bound on its norm and noise, which no server can switch off."""

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from ..errors import FcitError
from ..scenario.streams import Stream
from .arrays import numbers_of
from .messages import METRICS, TOKEN, arrays_of, returned, weight_names
from .noise import Noise
from .privacy import UpdatePrivacy, digest_of_updates


@dataclass(frozen=True)
class SiteUpdates:
    """Bounds a site's update, and adds noise to it: the Gaussian mechanism at the site itself (local differential privacy).

    Attributes:
        clipping_norm: C, largest L2 norm of the update, all its tensors together.
        noise_multiplier: z; each number gets noise of standard deviation z C. 0 for none.
        noise: Where the noise comes from: a secret of the site's own.
    """

    clipping_norm: float
    noise_multiplier: float
    noise: Noise

    def __call__(self, reply: Message, request: Message) -> Message:
        """A reply as it may leave; its weight and its loss stay.

        Args:
            reply: A client's, to a training.
            request: What it answers.

        Raises:
            FcitError: It holds something else beside the update, which would leave as it is.
        """
        names = weight_names(request)
        more = sorted(set(reply.content.array_records) - {*names, TOKEN})
        if more:
            raise FcitError(
                f"This site bounds its updates (`fcit_site_clipping_norm`), and its reply would have {', '.join(more)} beside "
                "them; take another `fcit_method` or `fcit_server_rule`."
            )
        clipped = UpdatePrivacy(self.clipping_norm, self.noise_multiplier, self.noise).clip(reply, request)
        content = RecordDict(dict(clipped.content))
        content[METRICS] = reply.content[METRICS]
        if self.noise_multiplier:
            deviation = self.noise_multiplier * self.clipping_norm
            # by the update's digest, too: the noise of two updates is never the same, and does not cancel in their difference
            noisy, update = self.noise.at(Stream.UPDATE_NOISE), digest_of_updates(arrays_of(clipped, name) for name in names)
            for name in names:
                sent, trained = arrays_of(request, name), arrays_of(clipped, name)
                found = {}
                for key in returned(request, name):
                    values = [numbers_of(trained[key])]
                    mean = noisy.mean(f"{update} {name} {key}", values, numbers_of(sent[key]), deviation)
                    found[key] = Array(mean.astype(np.float32))
                content[name] = ArrayRecord(found)
        return Message(content, reply_to=request)
