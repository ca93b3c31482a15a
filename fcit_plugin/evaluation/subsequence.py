"""How much of two sequences is common to both, in order."""

from collections.abc import Sequence


def in_common(one: Sequence[str], other: Sequence[str]) -> float:
    """Return 2l / (length of both), from 0 to 1, with l the length of their longest common subsequence; 0 if both are empty."""
    longest = [0] * (len(other) + 1)
    for item in one:
        above = longest[:]
        for j, match in enumerate(other):
            longest[j + 1] = above[j] + 1 if item == match else max(above[j + 1], longest[j])
    both = len(one) + len(other)
    return 2 * longest[-1] / both if both else 0.0
