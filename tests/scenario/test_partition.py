"""Properties that any partition has, and the details of the quantity skew."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcit_plugin.scenario import PARTITIONERS, partition
from fcit_plugin.scenario.partition import _top_up


@st.composite
def cases(draw):
    num_clients, min_samples = draw(st.integers(1, 40)), draw(st.integers(0, 20))
    return {
        "num_records": num_clients * min_samples + draw(st.integers(0, 500)),
        "num_clients": num_clients,
        "method": draw(st.sampled_from(sorted(PARTITIONERS))),
        "beta": draw(st.floats(1e-3, 1e3)),
        "min_samples": min_samples,
        "seed": draw(st.integers(0, 2**32) | st.lists(st.integers(0, 99), min_size=1, max_size=3)),
    }


@settings(max_examples=300, deadline=None)
@given(cases())
def test_every_record_goes_to_exactly_one_client(case):
    parts = partition(**case)
    assert len(parts) == case["num_clients"]
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(case["num_records"]))
    assert min(map(len, parts)) >= case["min_samples"]
    if case["method"] == "iid":
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(0, 30))
def test_top_up_is_taking_one_record_after_the_other_from_the_largest(sizes, min_samples):
    sizes[0] += max(0, len(sizes) * min_samples - sum(sizes))
    expected = [max(size, min_samples) for size in sizes]
    largest = [(-size, client) for client, size in enumerate(sizes)]
    heapq.heapify(largest)
    for _ in range(sum(expected) - sum(sizes)):
        size, client = heapq.heappop(largest)
        heapq.heappush(largest, (size + 1, client))
        expected[client] -= 1
    topped = _top_up(np.array(sizes), min_samples).tolist()
    assert sorted(topped) == sorted(expected)
    assert sum(topped) == sum(sizes)
    assert all(max(new, min_samples) <= max(old, min_samples) for new, old in zip(topped, sizes, strict=True))


def test_quantity_is_the_floor_of_the_drawn_shares_plus_at_most_one():
    parts = partition(40_000, 50, beta=0.5, min_samples=0, seed=[7, 3])
    w = np.random.default_rng([7, 3]).dirichlet(np.full(50, 0.5))
    extra = np.array([len(part) for part in parts]) - np.floor(w * 40_000)
    fraction = w * 40_000 - np.floor(w * 40_000)
    assert set(extra.tolist()) == {0, 1}
    assert fraction[extra == 1].min() >= fraction[extra == 0].max()


def test_a_small_beta_is_more_skewed():
    spread = [np.std([len(p) for p in partition(10_000, 20, beta=b, min_samples=0, seed=1)]) for b in (0.1, 1, 100)]
    assert spread[0] > spread[1] > spread[2]


def test_the_hard_case_of_the_paper_reaches_the_minimum():
    sizes = [len(part) for part in partition(40_000, 50, beta=0.5, min_samples=50, seed=0)]
    assert (min(sizes), sum(sizes)) == (50, 40_000)


def test_seeds_repeat_and_differ():
    def draw(seed):
        return [part.tolist() for part in partition(300, 5, beta=1.0, min_samples=2, seed=seed)]

    assert draw(3) == draw(3) == draw([3])
    assert draw([3, 1]) != draw(3) != draw(4)


def test_records_are_shuffled_before_they_are_dealt_out():
    first = partition(1000, 2, method="iid", beta=1.0, min_samples=0, seed=0)[0]
    assert first.max() > 900
    assert first.tolist() != list(range(500))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_records": 199}, ["199 records", "fcit_num_clients", "fcit_min_client_samples", "200"]),
        ({"num_clients": 0}, ["fcit_num_clients"]),
        ({"min_samples": -1}, ["fcit_min_client_samples"]),
        ({"beta": 0.0}, ["fcit_beta"]),
        ({"beta": float("nan")}, ["fcit_beta"]),
        ({"method": "quantty"}, ["fcit_partition", "'quantty'", "'quantity'"]),
    ],
)
def test_errors_name_numbers_and_keys(change, words):
    case = {"num_records": 1000, "num_clients": 10, "beta": 1.0, "min_samples": 20, "seed": 0} | change
    with pytest.raises(ValueError) as caught:
        partition(**case)
    assert [word for word in words if word not in str(caught.value)] == []
