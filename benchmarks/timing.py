"""Comparing times on a machine that is never quiet: alternating repeats, and the median of their ratios."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest import mock


def alternate(candidates: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Call the candidates in turn, again and again.

    Args:
        candidates: What is compared, by name.
        repeats: How often each is timed.
        warm_up: How often each is called before that.

    Returns:
        Seconds of each call, by name.
    """
    for call in candidates.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@contextmanager
def timed_calls(owner: type, method: str) -> Iterator[list[float]]:
    """Within the block the seconds of every call of a method, in the order in which they end.

    Args:
        owner: The class.
        method: Its name.
    """
    found: list[float] = []
    call = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = call(*args, **kwargs)
        found.append(time.perf_counter() - start)
        return result

    with mock.patch.object(owner, method, timed):
        yield found


def ratio(seconds: list[float], baseline: list[float]) -> float:
    """Median of the ratios of calls that followed each other: what slows the machine down slows both."""
    return median(one / other for one, other in zip(seconds, baseline, strict=True))
