"""Dealing the records of the tasks out to the clients (docs/guide/settings.md)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FcitError
from ..plugins import registry
from .task_records import Records, Source
from .tasks import Scenario

#: Partitions that say whose a record is. Nothing is moved in them, so `fcit_min_client_samples` has no say.
AS_GIVEN = ("natural", "released")


@dataclass(frozen=True)
class PartitionOptions:
    """The recipe's keys of the partition.

    Attributes:
        num_clients: N, `fcit_num_clients`.
        method: `fcit_partition`, a registered partitioner (hook `fcit_partitioners`).
        beta: `fcit_beta`, concentration of the Dirichlet distribution; small is skewed.
        min_samples: `fcit_min_client_samples`.
        column: `fcit_partition_column`, the column that names a record's client.
        released: folder of the released partition files of the setting and beta, if they are asked for.
    """

    num_clients: int
    method: str = "quantity"
    beta: float = 1.0
    min_samples: int = 50
    column: str | None = None
    released: Path | None = None

    def __post_init__(self) -> None:
        """What a recipe's keys may be, `fcit_plugin.arguments` checks."""
        assert self.num_clients >= 1 and self.min_samples >= 0 and 0 < self.beta < math.inf, self

    def __str__(self) -> str:
        """The method, and what of the other keys it goes by."""
        at_least = "" if self.method in AS_GIVEN else f", at least {self.min_samples} records"
        beta = "" if self.method in ("iid", "natural") else f", beta {self.beta}"
        return f"{self.method}{beta}{at_least}"


def deal(records: Records, options: PartitionOptions, seed: int | Sequence[int]) -> list[np.ndarray]:
    """Deal the records of one task out to the N clients, no record to two.

    Every record gets a client, and every client at least `min_samples` records: who has fewer is topped up from
    the largest, with records drawn by `seed`. Partitions as given (`natural`, `released`) move nothing.

    Args:
        records: n records.
        options: what the recipe asks for.
        seed: one seed or several, such as (seed, task). The partition depends on nothing else that is random.

    Returns:
        N arrays of record indices, int64, each sorted in ascending order.

    Raises:
        FcitError: there are too few records, a client has none, or a partitioner did not deal properly.
    """
    given = options.method in AS_GIVEN
    needed = options.num_clients * options.min_samples
    if len(records) < needed and not given:
        raise FcitError(
            f"{len(records)} records of the task {records.name} are too few for {options.num_clients} clients"
            f" (fcit_num_clients) with at least {options.min_samples} each (fcit_min_client_samples): {needed} are"
            " needed; lower one of them."
        )
    generator = np.random.default_rng(seed)
    partitioner = registry("partitioners")[options.method]
    dealt = partitioner.load()(records, options, generator)
    try:
        parts = [np.asarray(part, np.int64) for part in dealt]
    except (TypeError, ValueError) as error:
        raise FcitError(
            f"fcit_partition: {options.method} of {partitioner.package} returned {repr(dealt)[:100]}; it returns one array of"
            " record indices per client."
        ) from error
    _check(parts, records, options)
    if not given:
        parts = top_up(parts, options.min_samples, generator)
    return [np.sort(part) for part in parts]


def _check(parts: list[np.ndarray], records: Records, options: PartitionOptions) -> None:
    """Refuse what is not a partition: partitioners come from anywhere."""
    method, n = options.method, len(records)
    if len(parts) != options.num_clients:
        raise FcitError(f"fcit_partition: {method} made {len(parts)} parts for {options.num_clients} clients.")
    dealt = np.concatenate(parts)
    times = np.bincount(dealt, minlength=n) if dealt.size == 0 or 0 <= dealt.min() <= dealt.max() < n else None
    if times is None or times.max(initial=0) > 1:
        raise FcitError(f"fcit_partition: {method} deals a record of the task {records.name} twice, or one that is not there.")
    if method not in AS_GIVEN and dealt.size < n:
        raise FcitError(f"fcit_partition: {method} leaves {n - dealt.size} records of the task {records.name} to nobody.")
    for client, part in enumerate(parts):
        if method in AS_GIVEN and not part.size:
            raise FcitError(
                f"fcit_partition: {method} gives client {client} no record of the task {records.name}; it could not be"
                " trained on it. Take the client or the task out."
            )


class Partition:
    """The partition of all tasks of a setting, made when it is asked for.

    Args:
        scenario: the setting.
        source: where the records are read.
        options: what the recipe asks for.
        seed: seed of the run. Task t is distributed by the seed (seed, t), whatever was distributed before.
    """

    def __init__(self, scenario: Scenario, source: Source, options: PartitionOptions, seed: int) -> None:
        self.scenario = scenario
        self.source = source
        self.options = options
        self.seed = seed
        self._parts: dict[int, list[np.ndarray]] = {}

    def records(self, task: int) -> Records:
        """The records of a task."""
        return Records(self.scenario, task, self.source)

    def parts(self, task: int) -> list[np.ndarray]:
        """The record indices of each client in a task, as :func:`deal` gives them."""
        if task not in self._parts:
            self._parts[task] = deal(self.records(task), self.options, [self.seed, task])
        return self._parts[task]

    def client_names(self) -> list[str] | None:
        """What the records call the clients, by their numbers; None where these are all that there is to call them."""
        if self.options.method != "natural":
            return None
        assert self.options.column is not None, "`arguments` asks for fcit_partition_column"
        tasks = self.scenario.tasks_to_train()
        return list(map(str, self.records(tasks[0]).clients_named(self.options.column))) if tasks else None

    def dealt(self) -> list[int]:
        """The tasks that were asked for so far: in a run those that some client works on."""
        return sorted(self._parts)

    def table(self, tasks: Iterable[int]) -> list[dict[str, Any]]:
        """How many records each client has of each dataset of some tasks.

        Returns:
            One entry per task and dataset, in the order of the setting: {"task": name, "dataset": name,
            "records": [number of each client]}.
        """
        rows = []
        for task in tasks:
            records, parts = self.records(task), self.parts(task)
            which = records.datasets()
            for number, dataset in enumerate(records.sizes):
                counts = [int(np.count_nonzero(which[part] == number)) for part in parts]
                rows.append({"task": records.name, "dataset": dataset, "records": counts})
        return rows


def top_up(parts: Sequence[np.ndarray], min_samples: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Raise every client to `min_samples` records: the largest give up records drawn at random.

    Args:
        parts: N arrays of indices, in all at least N * min_samples.
        min_samples: the least number of records of a client.
        generator: draws which records move. It is not touched if none has to.

    Returns:
        N arrays; those of clients that neither give nor take are as they were.
    """
    sizes = np.array([len(part) for part in parts])
    wanted = raise_sizes(sizes, min_samples)
    if (wanted == sizes).all():
        return list(parts)
    kept = [generator.permutation(part)[:size] if size < len(part) else part for part, size in zip(parts, wanted, strict=True)]
    spare = generator.permutation(np.setdiff1d(np.concatenate(parts), np.concatenate(kept)))
    shares = np.split(spare, np.cumsum(np.maximum(wanted - sizes, 0))[:-1])
    return [np.concatenate([part, share]) for part, share in zip(kept, shares, strict=True)]


def raise_sizes(sizes: np.ndarray, min_samples: int) -> np.ndarray:
    """Raise every client to `min_samples`, taking from whichever client is the largest at that moment.

    Taking one record after the other from the largest client cuts all large clients to one level. That
    level is the highest one whose excess covers what is missing; the excess that is left over goes
    back, one record each, to the first of the clients that were cut.

    Args:
        sizes: int64 [N], sum at least N * min_samples.
        min_samples: the least number of records of a client.

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

    topped: np.ndarray = np.clip(sizes, min_samples, level)
    cut = np.flatnonzero(sizes > level)
    topped[cut[: sizes.sum() - topped.sum()]] += 1
    return topped
