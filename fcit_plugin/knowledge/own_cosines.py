"""How near a subspace's own instructions lie to what their clients told: counts of cosines in coarse bins.

A client counts the cosine of each of its records to its own token, as a question's to a subspace is taken; the server adds the
counts up. From them comes whether a question is farther from a subspace than what it was trained on.
"""

from collections.abc import Iterable, Mapping

from ..schema import LARGEST

#: Bins of equal width from -1 to 1.
BINS = 40
#: For each bin how many cosines are in it; [`BINS`].
Counts = tuple[int, ...]
#: The percentages whose quantiles are shown, the first of which a question is held against.
SHOWN = (1, 5, 50)


def told(counts: Iterable[int], fewest: int) -> Counts | None:
    """What a client tells of its counts: no bin of a few records, which are counted with nearer ones.

    The nearest, where these are too few, are counted with those before them. None of fewer records in all.

    Args:
        counts: Of its records, bin by bin.
        fewest: The fewest that are told of.
    """
    found, waiting, last = [0] * BINS, 0, None
    for place, count in enumerate(counts):
        waiting += count
        if waiting >= fewest:
            found[place], waiting, last = waiting, 0, place
    if last is None:
        return None
    found[last] += waiting
    return tuple(found)


def bounded(counts: Counts, most: int) -> Counts:
    """Counts that come to no more than so many, with the shares that they had, rounded down."""
    total = sum(counts)
    return counts if total <= most else tuple(count * most // total for count in counts)


def added(known: Mapping[int, Counts], more: Iterable[tuple[int, Counts]]) -> dict[int, Counts]:
    """By subspace the sums of what is known and of more, in any order the same: each ends at the largest exact number."""
    found = dict(known)
    for k, counts in more:
        before = found.get(k, (0,) * BINS)
        found[k] = tuple(min(one + other, LARGEST) for one, other in zip(before, counts, strict=True))
    return dict(sorted(found.items()))


def quantile(counts: Counts, percent: int) -> float | None:
    """The cosine that all but so many percent of the records have or exceed: the lower end of a bin; None of no records."""
    total, so_far = sum(counts), 0
    for place, count in enumerate(counts if total else ()):
        so_far += count
        if 100 * so_far >= percent * total:
            return (2 * place - BINS) / BINS
    return None


def of_a_hundred(counts: Counts) -> Counts:
    """Counts of 100 records with the same quantiles at each whole percentage: they do not tell how many records there are."""
    found, total, so_far, done = [], sum(counts), 0, 0
    for count in counts:
        so_far += count
        reached = 100 * so_far // total if total else 0
        found.append(reached - done)
        done = reached
    return tuple(found)


def shown(counts: Counts) -> str:
    """The quantiles for people."""
    return ", ".join(f"{percent} %: {quantile(counts, percent):.2f}" for percent in SHOWN if sum(counts))
