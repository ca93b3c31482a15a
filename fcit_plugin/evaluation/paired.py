"""Differences between runs of the same seeds, with an interval: what a mean over seeds alone does not show.

Runs of one seed share their partition, their clients' order and much of their luck, so the differences seed by seed deviate
less than the runs do. The interval is Student's for the mean of n differences, mean ± t(0.975, n - 1) s / sqrt(n).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy import stats

#: What the interval holds with this probability.
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        mean: of what one has above the other.
        half: half of the interval's width, None with a single pair.
        pairs: how many seeds both have.
    """

    mean: float
    half: float | None
    pairs: int

    @classmethod
    def of(cls, ours: Mapping[int, float], theirs: Mapping[int, float]) -> "Difference | None":
        """What `ours` have above `theirs`, None where they share no seed.

        Args:
            ours: numbers by seed.
            theirs: likewise; what only one of them has is left out.
        """
        found = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
        if not found:
            return None
        if len(found) == 1:
            return cls(found[0], None, 1)
        quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(found) - 1))
        return cls(fmean(found), quantile * stdev(found) / sqrt(len(found)), len(found))

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} ({self.mean - self.half:+.2f} to {self.mean + self.half:+.2f})"
