"""Secure sums: whoever drops out when, what opens is the plain sum of integers to the bit, and no client stands bare."""

import itertools
import random

import numpy as np
import pytest
from sums import Lab, plain_sum, update_of

from fcit_plugin.federation.secure_sum.texts import SHARED, STEPS

NEVER = "never"


def expected(groups, gone, least=3):
    """Which sums open over whom, from the rules alone: written without the protocol's code."""

    def there(client, step):
        return STEPS.index(gone[client]) > STEPS.index(step) if client in gone else True

    def half(clients):
        return len(clients) // 2 + 1

    subspaces = {name: clients for name, clients in groups.items() if name != SHARED}
    roster = {name: [c for c in clients if there(c, "keys")] for name, clients in subspaces.items()}
    roster = {name: clients for name, clients in roster.items() if len(clients) >= least}
    if SHARED in groups:
        roster[SHARED] = [c for clients in roster.values() for c in clients]
    present = {name: [c for c in clients if there(c, "shares")] for name, clients in roster.items()}
    enough = {name: len(clients) >= max(least, half(roster[name])) for name, clients in present.items()}
    if not enough.get(SHARED, True):
        return {}
    sent = [c for name, clients in present.items() if name != SHARED and enough[name] for c in clients if there(c, "train")]
    alive = {name: [c for c in clients if c in sent] for name, clients in present.items()}
    alive = {name: clients for name, clients in alive.items() if len(clients) >= max(least, half(roster[name]))}
    signed = {name: [c for c in clients if there(c, "agree")] for name, clients in alive.items()}
    # a client without any sum that may open signs nothing, but whoever is in one signs for all of its sums
    given = {
        name: [c for c in clients if there(c, "unmask")]
        for name, clients in signed.items()
        if len(clients) >= half(roster[name])
    }
    return {name: sorted(alive[name]) for name, clients in given.items() if len(clients) >= half(roster[name])}


def check(groups, gone, shared=True):
    lab = Lab(groups, shared, gone)
    found = lab.run()
    wanted = expected(lab.groups, gone)
    assert {name: list(each.clients) for name, each in found.items()} == wanted, (gone, lab.refused, lab.server.reasons)
    assert not lab.refused and not lab.dropped
    for name, each in found.items():
        updates = [update_of(client, lab.names(client)) for client in each.clients]
        plain = plain_sum(updates, name, each.fixed.clients)
        assert [each.weight, *each.numbers.view(np.int32).tolist()] == plain, (gone, name)
        loss = sum(update.loss * update.weight for update in updates) / plain[0]
        assert each.loss == pytest.approx(loss, abs=1e-3)
        mean = sum(update.weight * np.concatenate([u.ravel() for _, u in sorted(update.changes[name].items())])
                   for update in updates) / plain[0]  # fmt: skip
        np.testing.assert_allclose(each.mean, mean, atol=1e-6)
    check_never_both(lab)
    return lab


def check_never_both(lab):
    """Of no client in no sum could both secrets be put together from all that the server was given."""
    survivors = lab.server._survivors
    for name, present in lab.server._present.items():
        giving = [given for given in lab.server._given.values() if name in given]
        half = len(lab.server._rosters[name]) // 2 + 1
        for client in present:
            of_mask = len(giving) if client in survivors else 0
            of_key = 0 if client in survivors else len(giving)
            shares = {given[name][str(client)] for given in giving}
            assert not (of_mask >= half and of_key >= half)
            assert len(shares) == len(giving)  # one share of each giver


STEPS_GONE = [*STEPS, NEVER]


def patterns(count):
    for steps in itertools.product(STEPS_GONE, repeat=count):
        yield {client: step for client, step in enumerate(steps) if step != NEVER}


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_three_clients_in_every_pattern_of_drop_outs(shared):
    for gone in patterns(3):
        check({"0": [0, 1, 2]}, gone, shared)


@pytest.mark.thorough
def test_four_clients_in_every_pattern_of_drop_outs():
    for gone in patterns(4):
        check({"0": [0, 1, 2, 3]}, gone, shared=len(gone) % 2 == 0)


@pytest.mark.parametrize("count", [4, 5])
def test_more_clients_in_patterns_of_drop_outs(count):
    for gone in random.Random(0).sample(list(patterns(count)), 40):
        check({"0": list(range(count))}, gone)


@pytest.mark.slow
def test_five_clients_in_every_pattern_of_drop_outs():
    for gone in patterns(5):
        check({"0": [0, 1, 2, 3, 4]}, gone)


def test_two_subspaces_in_patterns_of_drop_outs():
    drawn = random.Random(1)
    groups = {"0": [0, 2, 4, 6], "1": [1, 3, 5], "2": [7]}
    for _ in range(10):
        gone = {client: drawn.choice(STEPS) for client in range(8) if drawn.random() < 0.3}
        check(groups, gone)
