"""Each partition against the distribution it should have, and the natural one against the records themselves."""

import numpy as np
import pytest
from tables import Table, answers, one_task

from fcit_plugin.errors import FcitError
from fcit_plugin.scenario import Partition, PartitionOptions, Scenario, Task, deal


def parts_of(records, *, seed=0, **options):
    return deal(records, PartitionOptions(**({"num_clients": 5, "min_samples": 0} | options)), seed)


def sizes(parts):
    return [len(part) for part in parts]


def dirichlet_variance(num_clients, beta, group=np.inf):
    """Variance of a client's share of a group, if shares are Dirichlet(beta, ..., beta) and counts multinomial in them.

    With a0 = N beta and mu = 1 / N it is mu (1 - mu) / (1 + a0) for shares, and mu (1 - mu) (1 + a0 / n) / (1 + a0) for
    the counts of a group of n records over n.
    """
    total, mean = num_clients * beta, 1 / num_clients
    return mean * (1 - mean) * (1 + total / group) / (1 + total)


@pytest.mark.parametrize("beta", [0.5, 1.0, 5.0])
def test_quantity_shares_vary_as_dirichlet_shares_do(beta):
    records = one_task(a=40_000)
    drawn = [sizes(parts_of(records, num_clients=50, beta=beta, seed=seed)) for seed in range(60)]
    assert np.var(np.array(drawn) / 40_000) == pytest.approx(dirichlet_variance(50, beta), rel=0.15)
    assert np.mean(drawn) == 800


@pytest.mark.parametrize("beta", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("method", ["label", "mixture"])
def test_label_and_mixture_skew_follow_the_dirichlet_multinomial(method, beta):
    groups, of_each, num_clients = 40, 250, 10
    if method == "label":
        records = answers([f"answer {i % groups}" for i in range(groups * of_each)])
        which = np.arange(groups * of_each) % groups
    else:
        records = one_task(**{f"d{group}": of_each for group in range(groups)})
        which = np.arange(groups * of_each) // of_each
    shares = []
    for seed in range(10):
        parts = parts_of(records, method=method, num_clients=num_clients, beta=beta, seed=seed)
        shares += [np.bincount(which[part], minlength=groups) / of_each for part in parts]
    assert np.var(shares) == pytest.approx(dirichlet_variance(num_clients, beta, of_each), rel=0.1)


@pytest.mark.parametrize("method", ["quantity", "label", "mixture"])
def test_a_larger_beta_is_closer_to_even(method):
    records = one_task(**{name: [{"answer": name + "12"[i % 2]} for i in range(500)] for name in "abcd"})
    spread = []
    for beta in (0.1, 1.0, 10.0, 1000.0):
        parts = [parts_of(records, method=method, num_clients=10, beta=beta, seed=seed) for seed in range(5)]
        spread.append(np.mean([np.std(sizes(one)) for one in parts]))
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 5 * spread[-1]


def test_clients_of_a_small_beta_see_few_answers_where_equal_parts_see_all():
    records = answers([str(i % 10) for i in range(2000)])

    def answers_seen(**options):
        return np.mean([len(np.unique(part % 10)) for part in parts_of(records, num_clients=20, **options)])

    assert answers_seen(method="iid") == 10
    assert answers_seen(method="label", beta=0.05) < 5
    assert answers_seen(method="label", beta=100.0) > 9


def test_answers_that_occur_once_go_to_all_clients_alike():
    drawn = np.array([sizes(parts_of(answers([str(i) for i in range(1000)]), method="label", seed=s)) for s in range(40)])
    assert drawn.mean(axis=0) == pytest.approx([200] * 5, rel=0.03)
    # n independent choices of 1 of N with probabilities that are equal in the mean are a multinomial: n (1 - 1/N) / N
    assert drawn.var() == pytest.approx(1000 * 0.2 * 0.8, rel=0.35)


def test_quantity_is_the_floor_of_the_drawn_shares_plus_at_most_one():
    parts = parts_of(one_task(a=40_000), num_clients=50, beta=0.5, seed=[7, 3])
    w = np.random.default_rng([7, 3]).dirichlet(np.full(50, 0.5))
    extra = np.array(sizes(parts)) - np.floor(w * 40_000)
    fraction = w * 40_000 - np.floor(w * 40_000)
    assert set(extra.tolist()) == {0, 1}
    assert fraction[extra == 1].min() >= fraction[extra == 0].max()


def test_the_hard_case_of_the_paper_reaches_the_minimum():
    drawn = sizes(parts_of(one_task(a=40_000), num_clients=50, beta=0.5, min_samples=50))
    assert (min(drawn), sum(drawn)) == (50, 40_000)


@pytest.mark.parametrize("method", ["iid", "label", "mixture"])
def test_records_are_shuffled_before_they_are_dealt_out(method):
    records = one_task(a=[{"answer": "same"}] * 1000)
    first = parts_of(records, method=method, num_clients=2, beta=100.0)[0]
    assert first.max() > 900
    assert 0.3 < np.mean(first < 500) < 0.7


HOSPITALS = {
    "x": [{"site": site} for site in ("bonn", "aachen", "bonn", "celle")],
    "y": [{"site": site} for site in ("celle", "bonn", "aachen", "aachen")],
}


def hospitals(num_clients=3, data=HOSPITALS, **options):
    scenario = Scenario("custom", tuple(Task(name, (name,)) for name in data), tuple((t,) for t in range(len(data))))
    options = PartitionOptions(num_clients, "natural", column="site", **options)
    return Partition(scenario, Table(data), options, seed=0)


def test_natural_gives_each_client_its_own_records_whatever_the_minimum():
    made = hospitals(min_samples=50)
    assert [part.tolist() for part in made.parts(0)] == [[1], [0, 2], [3]]
    assert [part.tolist() for part in made.parts(1)] == [[2, 3], [1], [0]]


def test_natural_client_numbers_are_the_same_in_every_task():
    data = {"x": [{"site": 7}, {"site": 3}, {"site": 10}], "y": [{"site": 10}, {"site": 3}, {"site": 7}]}
    made = hospitals(data=data)
    assert [part.tolist() for part in made.parts(0)] == [[1], [0], [2]]
    assert [part.tolist() for part in made.parts(1)] == [[1], [2], [0]]


@pytest.mark.parametrize(
    ("data", "num_clients", "words"),
    [
        (HOSPITALS, 5, ["names 3 clients", "fcit_num_clients: 3 instead of 5"]),
        ({**HOSPITALS, "z": [{"site": "bonn"}, {"site": None}]}, 3, ["record 1", "dataset z", "'site'", "which is empty"]),
        ({**HOSPITALS, "z": [{"site": 2}]}, 4, ["'site'", "numbers and texts"]),
    ],
)
def test_natural_columns_that_do_not_serve_are_refused(data, num_clients, words):
    with pytest.raises(FcitError) as caught:
        hospitals(num_clients, data).parts(0)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_client_without_a_record_of_a_task_is_named():
    data = {**HOSPITALS, "z": [{"site": "bonn"}, {"site": "celle"}]}
    with pytest.raises(ValueError, match="natural gives client 0 no record of the task z"):
        hospitals(data=data).parts(2)
