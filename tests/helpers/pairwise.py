"""Pairs of values of several axes, covered by few combinations."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any


def pairwise(
    axes: Mapping[str, Sequence[Any]],
    makes_sense: Callable[[dict[str, Any]], bool] = lambda case: True,
    matters: Callable[[dict[str, Any]], bool] = lambda pair: True,
) -> list[dict[str, Any]]:
    """A few of the combinations in which each pair of values of two axes stands that stands in any that makes sense.

    Greedy: the next one is the one with the most pairs that none had yet, the first of several.

    Args:
        axes: The values of each axis, hashable.
        makes_sense: Says which combinations there are.
        matters: Says which pairs of values, by the names of their two axes, are to be covered.
    """
    names = list(axes)
    cases = [case for values in product(*axes.values()) if makes_sense(case := dict(zip(names, values, strict=True)))]
    pairs = [
        {((a, case[a]), (b, case[b])) for a, b in combinations(names, 2) if matters({a: case[a], b: case[b]})} for case in cases
    ]
    left, chosen = set[Any]().union(*pairs), []
    while left:
        best = max(range(len(cases)), key=lambda i: len(pairs[i] & left))
        chosen.append(cases[best])
        left -= pairs[best]
    return chosen
