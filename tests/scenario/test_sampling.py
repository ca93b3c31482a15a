"""Client sampling: a function of (seed, stage, round) and of nothing else."""

from itertools import product

import numpy as np
import pytest

from fcit_plugin.scenario import client_seed, sample_clients

COORDINATES = list(product(range(3), range(4), range(5)))


def test_draws_are_distinct_clients_in_range():
    for seed, stage, r in COORDINATES:
        clients = sample_clients(9, 5, seed=seed, stage=stage, round=r)
        assert len(set(clients)) == 5
        assert set(clients) <= set(range(9))
        assert all(type(client) is int for client in clients)


def test_a_draw_does_not_depend_on_earlier_draws_or_on_global_state():
    before = [sample_clients(50, 5, seed=s, stage=t, round=r) for s, t, r in COORDINATES]
    np.random.seed(5)
    np.random.random(17)
    after = [sample_clients(50, 5, seed=s, stage=t, round=r) for s, t, r in reversed(COORDINATES)]
    assert before == after[::-1]


def test_coordinates_give_different_draws():
    draws = {sample_clients(1000, 5, seed=s, stage=t, round=r) for s, t, r in COORDINATES}
    assert len(draws) == len(COORDINATES)


def test_every_client_is_drawn_as_often_and_at_every_position():
    draws = np.array([sample_clients(10, 5, seed=0, stage=0, round=r) for r in range(2000)])
    for position in draws.T:
        assert np.abs(np.bincount(position, minlength=10) - 200).max() < 80


def test_all_clients_may_take_part():
    assert sorted(sample_clients(4, 4, seed=1, stage=0, round=0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("per_round", [0, 5])
def test_impossible_number_of_clients(per_round):
    with pytest.raises(AssertionError):
        sample_clients(4, per_round, seed=1, stage=0, round=0)


def test_client_seeds_are_31_bit_and_distinct():
    seeds = [client_seed(s, t, r, c) for s, t, r in COORDINATES for c in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert 2**30 < max(seeds) < 2**31
    assert seeds[0] == client_seed(0, 0, 0, 0)


def attempts(num_clients, per_round, count, **where):
    return [sample_clients(num_clients, per_round, **where, attempt=a) for a in range(count)]


def test_attempt_0_is_the_sample_of_the_round():
    for s, t, r in COORDINATES:
        where = {"seed": s, "stage": t, "round": r}
        assert sample_clients(50, 5, **where, attempt=0) == sample_clients(50, 5, **where)


def test_further_attempts_ask_new_clients_as_long_as_there_are_any():
    for s, t, r in COORDINATES:
        draws = attempts(11, 4, 3, seed=s, stage=t, round=r)
        assert all(len(set(draw)) == 4 for draw in draws)
        assert not set(draws[0]) & set(draws[1])
        assert len(set(draws[2]) - set(draws[0]) - set(draws[1])) == 3, "the last three not yet asked, and one again"


def test_attempts_ask_everyone_equally_often():
    asked = np.bincount(np.concatenate(attempts(7, 3, 14, seed=1, stage=0, round=2)), minlength=7)
    assert asked.tolist() == [6] * 7


def test_a_further_attempt_depends_on_its_coordinates_alone_and_differs_with_each():
    draws = {(s, t, r): sample_clients(1000, 5, seed=s, stage=t, round=r, attempt=1) for s, t, r in COORDINATES}
    assert len(set(draws.values())) == len(COORDINATES)
    for (s, t, r), draw in reversed(draws.items()):
        assert sample_clients(1000, 5, seed=s, stage=t, round=r, attempt=1) == draw


def test_with_all_clients_asked_there_are_no_others_to_turn_to():
    assert [set(draw) for draw in attempts(4, 4, 3, seed=0, stage=0, round=0)] == [{0, 1, 2, 3}] * 3
