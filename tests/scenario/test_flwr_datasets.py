"""flwr-datasets' partitioners: ours agree with them where they should, and the reasons not to use them still hold."""

import numpy as np
import pytest
from tables import answers, one_task

from fcit_plugin.scenario import PartitionOptions, deal

partitioners = pytest.importorskip("flwr_datasets.partitioner", reason="flwr-datasets is in the extra [dev]")
datasets = pytest.importorskip("datasets")


def theirs(partitioner, column):
    """The record indices of each of their partitions."""
    partitioner.dataset = datasets.Dataset.from_dict({"index": range(len(column)), "column": column})
    parts = [partitioner.load_partition(k).with_format("arrow") for k in range(partitioner.num_partitions)]
    return [part[:]["index"].to_numpy() for part in parts]


def their_dirichlet(column, num_clients, beta, seed, minimum=0):
    made = partitioners.DirichletPartitioner(
        num_partitions=num_clients, partition_by="column", alpha=beta, min_partition_size=minimum, seed=seed
    )
    return theirs(made, column)


def ours(column, num_clients, beta, seed):
    return deal(answers(column), PartitionOptions(num_clients, "label", beta, min_samples=0), seed)


@pytest.mark.parametrize("beta", [0.3, 3.0])
def test_label_skew_is_as_strong_as_theirs(beta):
    """Compared: how much of each label the largest owner has, and how large the clients are, smallest to largest."""
    column = [i % 8 for i in range(4000)]
    which = np.arange(4000) % 8

    def measures(deal):
        drawn = [deal(column, 10, beta, seed) for seed in range(12)]
        counts = np.array([[np.bincount(which[part], minlength=8) for part in parts] for parts in drawn])
        return np.array([counts.max(axis=1).mean(), *np.sort(counts.sum(axis=2), axis=1).mean(axis=0)])

    assert measures(ours) == pytest.approx(measures(their_dirichlet), rel=0.15, abs=25)


def test_natural_equals_theirs():
    column = [f"site {i * i % 7}" for i in range(60)]
    sites = sorted(set(column))
    record = [{"answer": site} for site in column]
    mine = deal(one_task(a=record), PartitionOptions(len(sites), "natural", column="answer"), 0)
    assert [part.tolist() for part in mine] == [
        part.tolist() for part in theirs(partitioners.NaturalIdPartitioner(partition_by="column"), column)
    ]


def test_theirs_gives_all_records_of_rare_labels_to_the_last_client():
    sizes = [len(part) for part in their_dirichlet([f"caption {i}" for i in range(300)], 10, 1.0, 0)]
    assert sizes == [0] * 9 + [300]


def test_theirs_gives_up_after_ten_draws_where_a_client_stays_under_the_minimum():
    with pytest.warns(UserWarning, match="min_partition_size"), pytest.raises(ValueError, match="max number of attempts"):
        their_dirichlet([i % 4 for i in range(4000)], 50, 0.5, 0, minimum=50)


def test_theirs_does_not_shuffle_for_iid():
    assert theirs(partitioners.IidPartitioner(num_partitions=4), list(range(20)))[0].tolist() == [0, 1, 2, 3, 4]
