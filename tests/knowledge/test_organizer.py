"""The rules of the organizer by hand, in the plane. Tokens at `degrees` a and b have cosine cos(a - b); 0.9 is 26 degrees."""

import logging
import math

import numpy as np
import pytest

from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Assignment, Organizer, match


def fresh_of(assignment):
    return {c for c, k in assignment.subspace.items() if k in assignment.opened}


def client(number, degrees, examples=100, count=10):
    angle = math.radians(degrees)
    return ClientToken(number, np.array([math.cos(angle), math.sin(angle)], np.float32), count, examples)


def known(*degrees):
    sums = np.array([client(0, d).mean for d in degrees], np.float32).reshape(-1, 2)
    return SubspaceTokens(sums * np.float32(4), np.full(len(degrees), 4))


def test_the_first_round_clusters_by_chains():
    clients = [client(7, 0), client(2, 20), client(5, 40), client(1, 90)]
    got = Organizer(0.9, None).assign(clients, known())
    assert got.subspace == {1: 0, 2: 1, 5: 1, 7: 1}
    assert (got.opened, fresh_of(got)) == ((0, 1), {1, 2, 5, 7})
    assert got.cosine[5] == pytest.approx(math.cos(math.radians(20)))


def test_a_later_stage_reuses_and_opens():
    got = Organizer(0.9, None).assign([client(0, 10), client(1, 170), client(2, 95)], known(0, 90))
    assert got == Assignment({0: 0, 1: 2, 2: 1}, got.cosine, (2,))
    assert got.cosine[0] == pytest.approx(math.cos(math.radians(10)))
    assert got.cosine[1] == pytest.approx(1)


def test_a_matched_client_is_no_bridge_for_an_unmatched_one():
    got = Organizer(0.9, None).assign([client(0, 20), client(1, 40)], known(0))
    assert got.subspace == {0: 0, 1: 1}


def test_each_client_follows_its_own_token_in_later_rounds():
    organizer, tokens = Organizer(0.9, None), known(0, 90)
    assert organizer.assign([client(0, 0), client(1, 90)], tokens).subspace == {0: 0, 1: 1}
    assert organizer.assign([client(0, 90), client(1, 0)], tokens).subspace == {0: 1, 1: 0}


def test_two_new_clusters_never_share_a_subspace():
    got = Organizer(0.9, None).assign([client(0, 90), client(1, 180), client(2, 270)], known(0))
    assert got.subspace == {0: 1, 1: 2, 2: 3}


def test_a_small_singleton_joins_the_nearest_new_cluster_and_no_existing_subspace():
    clients = [client(0, 100, 5000), client(1, 200, 5000), client(2, 40, 1)]
    assert Organizer(0.9, None).assign(clients, known(0)).subspace == {0: 1, 1: 2, 2: 1}


def test_a_small_singleton_without_any_other_new_cluster_opens_its_own():
    clients = [client(0, 0, 5000), client(2, 180, 1)]
    assert Organizer(0.9, None).assign(clients, known(0)).subspace == {0: 0, 2: 1}
    clients = [client(0, 0, 5000), client(2, 90, 1), client(1, 180, 1)]
    assert Organizer(0.9, None).assign(clients, known(0)).subspace == {0: 0, 1: 1, 2: 2}


def test_a_share_of_exactly_the_limit_is_not_small():
    got = Organizer(0.9, None).assign([client(0, 0, 999), client(1, 90, 1)], known())
    assert got.subspace == {0: 0, 1: 1}
    got = Organizer(0.9, None).assign([client(0, 0, 1000), client(1, 90, 1)], known())
    assert got.subspace == {0: 0, 1: 0}


def test_a_small_pair_is_no_singleton():
    clients = [client(0, 0, 9000), client(1, 90, 1), client(2, 95, 1)]
    assert Organizer(0.9, None).assign(clients, known()).subspace == {0: 0, 1: 1, 2: 1}


def test_capacity_opens_the_clusters_with_most_examples_and_says_so(caplog):
    clients = [client(0, 100, 10), client(1, 160, 30), client(2, 230, 20), client(3, 290, 20)]
    with caplog.at_level(logging.WARNING, logger="fcit_plugin"):
        got = Organizer(0.9, 3).assign(clients, known(0))
    assert got.subspace == {0: 1, 1: 1, 2: 2, 3: 2}
    assert (got.opened, fresh_of(got)) == ((1, 2), {0, 1, 2, 3})
    assert "max_subspaces" in caplog.text
    assert "[0, 3]" in caplog.text


def test_a_full_house_sends_a_stranger_to_the_nearest_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, logger="fcit_plugin"):
        got = Organizer(0.9, 2).assign([client(4, 140), client(5, 0)], known(0, 90))
    assert got == Assignment({4: 1, 5: 0}, got.cosine, ())
    assert "client 4" in caplog.text
    assert "client 5" not in caplog.text


def test_no_warning_without_need(caplog):
    with caplog.at_level(logging.WARNING, logger="fcit_plugin"):
        Organizer(0.9, 3).assign([client(0, 0), client(1, 90), client(2, 180, 9000), client(3, 181, 1)], known(0))
    assert caplog.text == ""


def test_match_alone():
    assert Organizer(0.9, 2).own_subspace(client(0, 46).mean, known(0, 90)) == 1
    assert Organizer(0.9, 3).own_subspace(client(0, 46).mean, known(0, 90)) is None
    assert Organizer(0.9, None).closed().own_subspace(client(0, 46).mean, known(0, 90)) == 1
    assert Organizer(0.9, None).closed().own_subspace(client(0, 46).mean, known()) is None
    assert match(client(0, 80).mean, known(0, 90), 0.9, None) == 1
    assert match(client(0, 45).mean, known(0, 90), 0.9, None) is None
    assert match(client(0, 46).mean, known(0, 90), 0.9, 2) == 1
    assert match(client(0, 46).mean, known(0, 90), 0.9, 3) is None
    assert match(client(0, 0).mean, known(), 0.9, 1) is None
    assert match(client(0, 5).mean, known(5, 5), 0.9, None) == 0


def test_an_opened_subspace_without_replies_keeps_its_number_and_attracts_nobody():
    organizer, clients = Organizer(0.9, 3), [client(0, 0), client(1, 90)]
    first = organizer.update(known(), clients[1:], organizer.assign(clients, known()))
    assert first.counts.tolist() == [0, 10]
    assert first.tokens.tolist()[0] == [0, 0]
    assert match(client(0, 0).mean, first, -1.0, None) == 1
    assert organizer.assign(clients, first).subspace == {0: 2, 1: 1}
    assert match(client(0, 181).mean, first, 0.9, 2) == 1
    assert match(client(0, 0).mean, SubspaceTokens(first.sums[:1], first.counts[:1]), -1.0, None) is None


def test_counts_beyond_float32_stay_exact():
    big = SubspaceTokens(np.ones((1, 2), np.float32), np.array([2**40 + 1]))
    new = Organizer(0.9, None).update(big, [client(0, 45, count=1)], Assignment({0: 0}, {0: 1.0}, ()))
    assert new.counts.tolist() == [2**40 + 2]


def test_small_contributions_of_one_round_are_summed_before_rounding():
    tokens = SubspaceTokens(np.array([[2.0**24, 0]], np.float32), np.array([1]))
    clients = [ClientToken(i, np.array([1.0, 0]), 1, 1) for i in range(64)]
    organizer = Organizer(0.9, None)
    assert organizer.update(tokens, clients, organizer.assign(clients, tokens)).sums[0, 0] == 2**24 + 64


def test_tokens_survive_the_way_through_arrays():
    tokens = known(0, 90)
    again = SubspaceTokens.from_arrays(tokens.to_arrays())
    assert again.sums.tobytes() == tokens.sums.tobytes()
    assert again.counts.tolist() == tokens.counts.tolist()
    assert (SubspaceTokens.empty(768).num_subspaces, SubspaceTokens.empty(768).sums.shape) == (0, (0, 768))


@pytest.mark.parametrize("mean", [[np.nan, 1], [np.inf, 1], [0, 0], [[1, 2]], [1e300, 0], [1e-60, 0]], ids=str)
def test_a_bad_token_names_its_client(mean):
    with pytest.raises(ValueError, match="client 17"):
        ClientToken(17, np.array(mean, np.float64), 1, 1)


@pytest.mark.parametrize(("count", "examples", "name"), [(0, 1, "count"), (1, 0, "num_examples")])
def test_a_bad_count_names_its_client(count, examples, name):
    with pytest.raises(ValueError, match=f"Client 17 reports {name} 0"):
        ClientToken(17, np.ones(2), count, examples)


def test_a_token_is_a_private_float32_copy():
    mean = np.ones(2)
    token = ClientToken(0, mean, 1, 1)
    mean[0] = 5
    assert (token.mean.dtype, token.mean.tolist()) == (np.float32, [1, 1])
    with pytest.raises(ValueError, match="read-only"):
        token.mean[0] = 2


def test_the_rest_of_the_complaints():
    organizer, wide = Organizer(0.9, None), ClientToken(17, np.ones(3), 1, 1)
    with pytest.raises(ValueError, match="client 17 has 3 numbers, those of the subspaces 2"):
        organizer.assign([wide], known())
    with pytest.raises(ValueError, match="client 17 has 3 numbers"):
        organizer.update(known(0), [wide], Assignment({17: 0}, {17: 1.0}, ()))
    with pytest.raises(ValueError, match="Client 3 appears twice"):
        organizer.assign([client(3, 0), client(3, 90)], known())
    with pytest.raises(ValueError, match="Client 1 has no subspace"):
        organizer.update(known(0), [client(1, 0)], Assignment({}, {}, ()))
    for bad in (np.array([np.nan, 1]), np.zeros(2), np.ones(3), np.ones((1, 2))):
        with pytest.raises(ValueError, match="identity token"):
            match(bad, known(0), 0.9, None)


@pytest.mark.parametrize("arguments", [(1.5, None), (float("nan"), None), (0.9, 0)])
def test_impossible_settings(arguments):
    with pytest.raises(AssertionError):
        Organizer(*arguments)


@pytest.mark.parametrize(
    ("sums", "counts"),
    [
        (np.zeros((1, 2)), np.ones(1, np.int64)),
        (np.zeros((1, 2), np.float32), np.ones(1, np.int32)),
        (np.zeros((1, 2), np.float32), np.ones(2, np.int64)),
        (np.zeros(2, np.float32), np.ones(2, np.int64)),
        (np.full((1, 2), np.nan, np.float32), np.ones(1, np.int64)),
        (np.zeros((1, 2), np.float32), np.array([-1])),
    ],
)
def test_a_broken_state_is_refused(sums, counts):
    with pytest.raises(ValueError, match="Subspace tokens need"):
        SubspaceTokens(sums, counts)
