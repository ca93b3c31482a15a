"""``fcit_later_rounds``: a client that matches no subspace opens one in every round, or in the first of a stage alone."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import BLANK, TOKENS, Local, Toy, bits, noise, start

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.methods import make_method
from fcit_plugin.plugins import registry


def at(round, stage=0):
    """The toy's state with two subspaces, at a round."""
    return dataclasses.replace(start(), round=round, stage=stage)


def told(client):
    """What a client of the toy tells."""
    return Local().token(SimpleNamespace(client=client))


def nearest():
    """The number of each client's subspace if it is the nearest of the two, whose tokens are the first two axes."""
    return {client: int(token[1] > token[0]) for client, token in TOKENS.items()}


def test_nearest_is_the_largest_cosine_and_its_mean_the_weighted_one():
    toy = Toy(fcit_later_rounds="nearest", fcit_identity_unit=False)
    after = toy.round(at(1))
    assert {row["client"]: row["subspace"] for row in toy.heard.rows} == nearest()
    assert len(after.subspaces) == 2
    for k in range(2):
        members = [client for client in TOKENS if nearest()[client] == k]
        weights = [told(client).num_examples for client in members]
        for key in BLANK:
            moved = [
                noise(60 + k, BLANK)[key] + noise(1 + client + 100, BLANK | {"projector.weight": torch.zeros(5)})[key]
                for client in members
            ]
            expected = sum(w * value.double() for w, value in zip(weights, moved, strict=True)) / sum(weights)
            torch.testing.assert_close(after.subspaces[k][key].double(), expected, rtol=1e-5, atol=1e-6)
        counts = [10 + client for client in members]
        summed = 10 * np.eye(6)[k] + sum(n * TOKENS[client] for n, client in zip(counts, members, strict=True))
        np.testing.assert_allclose(after.tokens.sums[k], summed, rtol=1e-5)
        assert after.tokens.counts[k] == 10 + sum(counts)


@pytest.mark.parametrize("rule", ["open", "nearest"])
@pytest.mark.parametrize(("stage", "round"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)])
def test_every_round_of_every_stage(rule, stage, round):
    """Of the seven clients three match; 3 is of a kind of its own, 4, 5 and 6 are a chain."""
    toy = Toy(fcit_later_rounds=rule, fcit_stages=[["a"], ["b"]])
    after = toy.round(at(round, stage))
    assert len(after.subspaces) == (2 if rule == "nearest" and round else 4)


def test_the_first_round_and_clients_that_match_are_the_same_to_the_bit():
    first = [bits(Toy(fcit_later_rounds=rule).round(at(0))) for rule in ("open", "nearest")]
    assert first[0] == first[1]
    later = [bits(Toy(without=(3, 4, 5, 6), fcit_later_rounds=rule).round(at(1))) for rule in ("open", "nearest")]
    assert later[0] == later[1]


def test_it_is_no_news_that_a_client_goes_to_the_nearest(caplog):
    Toy(fcit_later_rounds="nearest").round(at(1))
    assert "subspaces are taken" not in caplog.text


def test_clients_and_server_go_by_the_same_rule():
    """A client that carries folders finds its subspace alone: `own_subspace` of the round's organizer, and `assign`."""
    toy = Toy(fcit_later_rounds="nearest")
    method, state = toy.program.method, at(1)
    for round in range(3):
        organizer = method.organizer_of(0, round)
        clients = [told(client) for client in TOKENS]
        assignment = organizer.assign(clients, state.tokens)
        for c in clients:
            alone = organizer.own_subspace(c.mean, state.tokens)
            assert alone == (assignment.subspace[c.client] if assignment.subspace[c.client] < 2 else None)
            assert round == 0 or alone == nearest()[c.client]


def test_a_method_without_tokens_stays_what_it_is():
    later = [bits(Toy(fcit_later_rounds=rule, fcit_method="sequential").round(at(1))) for rule in ("open", "nearest")]
    assert later[0] == later[1]


@pytest.mark.parametrize("method", registry("methods"))
def test_each_methods_organizer_stays_of_its_kind(method):
    made = make_method(FcitArguments(fcit_method=method, fcit_later_rounds="nearest"))
    for round in range(2):
        organizer = made.organizer_of(0, round)
        assert type(organizer) is type(made.organizer(0))
        assert organizer.opens == (round == 0)
