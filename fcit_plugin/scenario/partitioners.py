"""Who gets which records of a task: the partitions that ``fcit_partition`` names.

flwr-datasets has partitioners for three of these, and we do not use them, for these reasons (0.6.1, each held by a test
in ``tests/scenario/test_flwr_datasets.py``):

- ``DirichletPartitioner`` rounds each label's shares down and gives the rest to the last client: of labels that occur once,
  such as captions, the last client gets every record. It compares all records with each label in turn, which takes
  minutes for 40,000 captions. And it ends with an error after ten draws if one client stays under the minimum.
- ``IidPartitioner`` cuts the dataset into consecutive slices and leaves shuffling to the user.
- ``NaturalIdPartitioner`` numbers the clients within one dataset: the same hospital would be client 3 in one task and
  client 5 in the next.

All of them give out datasets, while a client here is a list of indices into records that are tokenized once.
"""

import numpy as np

from ..errors import FcitError
from .partition import PartitionOptions, raise_sizes
from .released_partition import released
from .task_records import Records


def quantity(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """Quantity skew: w ~ Dirichlet(beta over N clients), client k gets floor(w_k n) records (docs/guide/settings.md).

    The records that rounding down leaves go one each to the clients with the largest fraction of w_k n
    (ties: the smaller client). The sizes are raised to the minimum before the records are drawn.
    """
    n = len(records)
    share = generator.dirichlet(np.full(options.num_clients, options.beta)) * n
    sizes = np.floor(share).astype(np.int64)
    largest_fraction = np.argsort(sizes - share, kind="stable")
    sizes[largest_fraction[: n - sizes.sum()]] += 1
    return _deal(raise_sizes(sizes, options.min_samples), generator)


def iid(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """Near-equal sizes: the first n mod N clients have one record more. `beta` plays no part."""
    n, num_clients = len(records), options.num_clients
    sizes = np.full(num_clients, n // num_clients, dtype=np.int64)
    sizes[: n % num_clients] += 1
    return _deal(sizes, generator)


def label(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """Label skew: the records of each answer are distributed by a Dirichlet draw of its own; see :func:`_skewed`.

    Meant for datasets with few answers; where every answer is another one, as with captions, it deals out at random.
    """
    number: dict[str, int] = {}
    which = np.array([number.setdefault(answer, len(number)) for answer in records.labels()], dtype=np.int64)
    return _skewed(which, options, generator)


def mixture(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """Task mixture: the same with the datasets of a pooled task for labels, so that clients differ in what they have of which.

    In a task of one dataset that is a skew of quantity.
    """
    return _skewed(records.datasets(), options, generator)


def natural(records: Records, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """As the records say: the column `fcit_partition_column` names each record's client.

    Clients are numbered in the order of their names over the whole setting, so that one name is one client in every task.

    Raises:
        FcitError: a record names nobody, or the setting does not have N names.
    """
    assert options.column is not None, "`arguments` asks for fcit_partition_column"
    key, names = options.column, records.clients_named(options.column)
    if len(names) != options.num_clients:
        raise FcitError(
            f"fcit_partition: natural: the column {key!r} (fcit_partition_column) names {len(names)} clients in the data"
            f" sets of the setting; set fcit_num_clients: {len(names)} instead of {options.num_clients}."
        )
    number = {name: client for client, name in enumerate(names)}
    owner = np.array([number[name] for name in records.column(key)], dtype=np.int64)
    return [np.flatnonzero(owner == client) for client in range(options.num_clients)]


PARTITIONERS = {
    "quantity": quantity,
    "iid": iid,
    "label": label,
    "mixture": mixture,
    "natural": natural,
    "released": released,
}


def _deal(sizes: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """One permutation says which records they are."""
    records = generator.permutation(int(sizes.sum())).astype(np.int64, copy=False)
    return np.split(records, np.cumsum(sizes)[:-1])


def _skewed(which: np.ndarray, options: PartitionOptions, generator: np.random.Generator) -> list[np.ndarray]:
    """Deal each group of records out by shares of its own: p_g ~ Dirichlet(beta over N clients) (arXiv 1905.12022).

    Each record of group g goes to client k with probability p_g[k]. The counts are thus Dirichlet-multinomial: right
    in the mean for groups of any size, where rounding shares to counts would give groups of one record all to the
    same client.

    Args:
        which: int64 [n], the group of each record, from 0.
        options: N and beta.
        generator: draws shares, counts and records.
    """
    sizes = np.bincount(which)
    shares = generator.dirichlet(np.full(options.num_clients, options.beta), size=len(sizes))
    counts = generator.multinomial(sizes, shares)  # [groups, N]
    shuffled = generator.permutation(len(which))
    by_group = shuffled[np.argsort(which[shuffled], kind="stable")]
    client = np.repeat(np.tile(np.arange(options.num_clients), len(sizes)), counts.ravel())
    return [by_group[client == k] for k in range(options.num_clients)]
