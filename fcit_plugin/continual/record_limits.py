"""What the records may hold that clients send beside their weights where a method or a server rule wants some."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RecordLimits:
    """What such a record may hold, beside what holds for all: finite numbers, and a bounded norm.

    Attributes:
        least: The least number that there can be in it; None: any number.
        power: By which power of gradients its numbers grow: 1 for gradients, 2 for squares of them. Where the gradients of two
            honest clients differ by a factor, the norms of their records differ by this power of it: so a norm may be this
            power of `fcit_max_norm_ratio` times the median of the round, or times 1 where that is less, as it is once most
            clients have little left to learn. With the default what grows more slowly is not refused either. None: norms of
            honest clients cannot be compared.
    """

    least: float | None = None
    power: int | None = 2
