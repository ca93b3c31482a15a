"""What a client may weigh: whatever its token says, no direction is longer and no count larger than the round's bounds.

Counts and lengths come from clients, and a sum weighs each client by them. Here they are bounded once, before anything is
decided or added up by them: who is small, which subspaces open, the tokens of subspaces, and the average of the updates.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median_low

import numpy as np

from .identity_tokens import ClientToken, WithoutToken
from .prototypes import Prototypes
from .vectors import unit


@dataclass(frozen=True)
class Weighing:
    """How the tokens and the counts of a round are weighed.

    Attributes:
        unit_length: Whether a token, and each of a client's kinds of instructions, has length 1.
        count_ratio: The largest count relative to the round's median, at least 1; None: counts are as named.
    """

    unit_length: bool = False
    count_ratio: float | None = None

    def bounded(self, tokens: Iterable[ClientToken | WithoutToken]) -> list[ClientToken | WithoutToken]:
        """The tokens of all clients of a round as they count, and the examples of those without one, in the same order.

        The median is the lower one of an even number, so that with any number of clients it is the count of one that is
        not above half of them. Examples and token counts are bounded apart. A client's kinds of instructions keep their
        shares of its count, rounded down, and at least 1.

        Args:
            tokens: As the clients named them.
        """
        tokens = list(tokens)
        if self.count_ratio is not None and tokens:
            counts = self._bounded([token.count if isinstance(token, ClientToken) else token.num_examples for token in tokens])
            examples = self._bounded([token.num_examples for token in tokens])
            tokens = [_counted(*each) for each in zip(tokens, counts, examples, strict=True)]
        return [_with_length_1(token) for token in tokens] if self.unit_length else tokens

    def _bounded(self, counts: Sequence[int]) -> list[int]:
        assert self.count_ratio is not None
        most = math.floor(self.count_ratio * median_low(counts))
        return [min(count, most) for count in counts]


def _counted(token: ClientToken | WithoutToken, count: int, num_examples: int) -> ClientToken | WithoutToken:
    if isinstance(token, WithoutToken):
        return token if num_examples == token.num_examples else replace(token, num_examples=num_examples)
    if (count, num_examples) == (token.count, token.num_examples):
        return token
    kinds = token.kinds
    if kinds is not None and count != token.count:
        counts = [max(1, part * count // token.count) for part in kinds.counts.tolist()]  # as Python multiplies: no overflow
        kinds = Prototypes(kinds.means, np.array(counts, np.int64))
    return replace(token, count=count, num_examples=num_examples, kinds=kinds)


def _with_length_1(token: ClientToken | WithoutToken) -> ClientToken | WithoutToken:
    if isinstance(token, WithoutToken):
        return token
    kinds = token.kinds
    if kinds is not None:
        kinds = Prototypes(unit(kinds.means).astype(np.float32), kinds.counts)
    return replace(token, mean=unit(token.mean).astype(np.float32), kinds=kinds)
