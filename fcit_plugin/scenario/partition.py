"""Dealing the records of one data set out to the clients (spec, section 5)."""

import difflib
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..plugins import registry

Sizes = Callable[[int, int, float, np.random.Generator], np.ndarray]
"""A partitioner: (n, N, beta, generator) -> int64 [N], the number of records of each client, n in all."""


def quantity(num_records: int, num_clients: int, beta: float, generator: np.random.Generator) -> np.ndarray:
    """Quantity skew: w ~ Dirichlet(beta over N clients), client k gets floor(w_k n) records.

    The records that rounding down leaves go one each to the clients with the largest fraction of w_k n
    (ties: the smaller client).

    Returns:
        int64 [N], sums to `num_records`.
    """
    share = generator.dirichlet(np.full(num_clients, beta)) * num_records
    sizes = np.floor(share).astype(np.int64)
    largest_fraction = np.argsort(sizes - share, kind="stable")
    sizes[largest_fraction[: num_records - sizes.sum()]] += 1
    return sizes


def iid(num_records: int, num_clients: int, beta: float, generator: np.random.Generator) -> np.ndarray:
    """Near-equal sizes: the first n mod N clients have one record more. `beta` plays no part.

    Returns:
        int64 [N], sums to `num_records`.
    """
    sizes = np.full(num_clients, num_records // num_clients, dtype=np.int64)
    sizes[: num_records % num_clients] += 1
    return sizes


PARTITIONERS: dict[str, Sizes] = {"quantity": quantity, "iid": iid}


def partition(
    num_records: int,
    num_clients: int,
    *,
    method: str = "quantity",
    beta: float,
    min_samples: int,
    seed: int | Sequence[int],
) -> list[np.ndarray]:
    """Deal `num_records` records out to `num_clients` clients, each record to exactly one.

    The method says how many records each client gets, the largest clients give to those under
    `min_samples`, and one permutation says which records they are.

    Args:
        num_records: n, records of the data set.
        num_clients: N.
        method: a registered partitioner (hook `fcit_partitioners`).
        beta: concentration of the Dirichlet distribution; small is skewed.
        min_samples: every client gets at least so many records.
        seed: one seed or several, such as (seed, task).

    Returns:
        N arrays of record indices, int64, each sorted in ascending order.

    Raises:
        ValueError: unknown method, too few records, or numbers out of range.
    """
    partitioners = registry("partitioners")
    if method not in partitioners:
        nearest = difflib.get_close_matches(str(method), partitioners, n=1, cutoff=0.0)[0]
        raise ValueError(f"fcit_partition: {method!r} is unknown; did you mean {nearest!r}?")
    if num_clients < 1:
        raise ValueError(f"fcit_num_clients is {num_clients}; it must be at least 1.")
    if min_samples < 0:
        raise ValueError(f"fcit_min_client_samples is {min_samples}; it must be 0 or more.")
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"fcit_beta is {beta}; it must be a number above 0.")
    if num_records < num_clients * min_samples:
        raise ValueError(
            f"{num_records} records are too few for {num_clients} clients (fcit_num_clients) with at least"
            f" {min_samples} each (fcit_min_client_samples): {num_clients * min_samples} are needed; lower one of them."
        )

    generator = np.random.default_rng(seed)
    sizes = _top_up(partitioners[method](num_records, num_clients, beta, generator), min_samples)
    records = generator.permutation(num_records).astype(np.int64, copy=False)
    return [np.sort(part) for part in np.split(records, np.cumsum(sizes)[:-1])]


def _top_up(sizes: np.ndarray, min_samples: int) -> np.ndarray:
    """Raise every client to `min_samples`, taking from whichever client is the largest at that moment.

    Taking one record after the other from the largest client cuts all large clients to one level. That
    level is the highest one whose excess covers what is missing; the excess that is left over goes
    back, one record each, to the first of the clients that were cut.

    Args:
        sizes: int64 [N], sum at least N * min_samples.

    Returns:
        int64 [N], the same sum, no entry below `min_samples`.
    """
    missing = np.maximum(min_samples - sizes, 0).sum()
    level, too_high = min_samples, int(sizes.max()) + 1
    while too_high - level > 1:
        middle = (level + too_high) // 2
        if np.maximum(sizes - middle, 0).sum() >= missing:
            level = middle
        else:
            too_high = middle

    topped = np.clip(sizes, min_samples, level)
    cut = np.flatnonzero(sizes > level)
    topped[cut[: sizes.sum() - topped.sum()]] += 1
    return topped
