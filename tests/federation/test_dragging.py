"""One client of a round that means harm: what it may weigh, move and open. Closed forms on the federation without a model."""

import numpy as np
import pytest
import torch
from helpers.toy import BLANK, D, E, Toy, start

from fcit_plugin.federation.client import TrainingResult
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.state.server_state import ServerState

HUGE = 2**31 - 1
AS_NAMED = {"fcit_identity_unit": False, "fcit_max_count_ratio": None}
BOUNDED = {"fcit_identity_unit": True, "fcit_max_count_ratio": 1.0}


class Clients:
    """Clients whose weights all move by their own number, told by tokens and counts of the test's."""

    def __init__(self, tokens, counts):
        self.tokens, self.counts = tokens, counts

    def token(self, config):
        client = config.client
        token, count = self.tokens[client], self.counts.get(client, 50)
        token = token(config.round) if callable(token) else token
        return ClientToken(client, np.asarray(token, np.float32), count, count)

    def train(self, config, subspace, shared, extras):
        return TrainingResult(*({k: v + config.client for k, v in part.items()} for part in (subspace, shared)), 0.5, {})


def toy(tokens, counts=None, **keys):
    return Toy(without=set(range(7)) - set(tokens), local=Clients(tokens, counts or {}), **keys)


def empty() -> ServerState:
    return ServerState(SubspaceTokens.empty(D), {}, [])


def moved(state, k=0):
    """How far the weights of a subspace that started from the blank one have moved: the weighted mean of client numbers."""
    return float((state.subspaces[k]["l.lora_B.weight"] - BLANK["l.lora_B.weight"]).mean())


def test_domination_a_client_that_names_all_examples_owns_the_mean_and_no_longer_with_the_ratio():
    clients = {0: E[0], 1: E[0], 2: E[0], 6: E[0]}
    assert moved(toy(clients, {6: HUGE}, **AS_NAMED).round(empty())) == pytest.approx(6, abs=1e-3)
    assert moved(toy(clients, {6: HUGE}, **BOUNDED).round(empty())) == pytest.approx((0 + 1 + 2 + 6) / 4)
    # by default it weighs as ten clients
    assert moved(toy(clients, {6: HUGE}).round(empty())) == pytest.approx((0 + 1 + 2 + 10 * 6) / 13)


def test_displacement_an_honest_newcomer_is_not_small_beside_a_client_that_names_all_examples():
    clients = {1: E[2], 2: E[0], 3: E[0], 6: 0.01 * E[2] + E[3]}
    taken = toy(clients, {6: HUGE}, **AS_NAMED)
    taken.round(start())
    place = {row["client"]: (row["subspace"], row["cosine"]) for row in taken.heard.rows}
    assert place[1][0] == place[6][0]
    assert place[1][1] == pytest.approx(0.01, abs=1e-4)
    for keys in (BOUNDED, {}):
        bounded = toy(clients, {6: HUGE}, **keys)
        bounded.round(start())
        place = {row["client"]: row["subspace"] for row in bounded.heard.rows}
        assert place[1] != place[6]


@pytest.mark.parametrize("way", ["count", "length"])
def test_dragging_a_subspace_away_from_its_clients(way):
    """The attacker asks with a token that still matches, 45 degrees off: the others' share of the sum decides."""
    off = (E[0] + E[1]) / np.sqrt(2)
    weight = 90 if way == "length" else 1
    tokens = {0: E[0], 1: E[0], 2: E[0], 6: weight * off}

    def cosine_of_the_honest(rounds=3, **keys):
        federation = toy(tokens, {6: 50 * 90 if way == "count" else 50}, fcit_similarity_threshold=0.7, **keys)
        state = ServerState(SubspaceTokens(50 * E[:1], np.array([50])), {}, [BLANK], tasks=[{"a": 1}])
        for _ in range(rounds):
            state = federation.round(state)
        token = state.tokens.tokens[0]
        return float(token @ E[0] / np.linalg.norm(token))

    assert cosine_of_the_honest(**AS_NAMED) == pytest.approx(np.cos(np.pi / 4), abs=0.03)
    # 50 + 3 x 150 honest, 3 x 50 of the attacker's, or ten times that by default: the closed form of their sum
    for keys, its in ((BOUNDED, 50), ({}, 500 if way == "count" else 50)):
        along, across = 50 + 3 * (150 + its / np.sqrt(2)), 3 * its / np.sqrt(2)
        assert cosine_of_the_honest(**keys) == pytest.approx(along / np.hypot(along, across), abs=1e-5)


def test_flooding_opens_no_more_than_the_bounds():
    clients = {c: E[c] if c < D else -E[0] for c in range(7)}
    opened = toy(clients, fcit_max_new_subspaces=2).round(empty())
    assert opened.tokens.num_subspaces == 2
    state, federation = empty(), toy(clients, fcit_max_new_subspaces=2, fcit_max_subspaces=5)
    for _ in range(3):
        state = federation.round(state)
    assert state.tokens.num_subspaces == 5


def test_by_default_a_round_opens_eight():
    clients = {c: E[c] if c < D else -E[c - D] for c in range(7)}
    assert toy(clients).round(empty()).tokens.num_subspaces == 7
    args = toy(clients).program.args
    assert (args.fcit_max_new_subspaces, args.fcit_max_subspaces) == (8, 64)


def test_the_bound_of_a_round_is_logged(caplog):
    clients = {c: E[c] for c in range(D)}
    toy(clients, fcit_max_new_subspaces=4).round(empty())
    assert "Only 4 subspaces may open in a round (fcit_max_new_subspaces): clients [4, 5]" in caplog.text


def test_squatting_a_subspace_of_one_client_is_unconfirmed_until_another_trains_it():
    state = toy({3: E[2]}).round(start())
    assert state.alone == {2: 3}
    np.testing.assert_array_equal(state.confirmed, [True, True, False])
    again = toy({3: E[2]}).round(state)
    assert again.alone == {2: 3}
    assert toy({4: E[2]}).round(again).alone == {}


def test_honest_rounds_do_not_depend_on_the_order_of_replies():
    clients = {c: E[c % 3] + 0.1 * E[5] for c in range(7)}
    counts = {c: 10 + 37 * c for c in range(7)}
    one, other = (toy(clients, counts, **BOUNDED) for _ in range(2))
    send = other.grid.send_and_receive
    other.grid.send_and_receive = lambda messages, **more: list(send(list(messages), **more))[::-1]
    first, second = one.round(empty()), other.round(empty())
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first.subspaces, second.subspaces, strict=True) for k in a)
    np.testing.assert_array_equal(first.tokens.sums, second.tokens.sums)
