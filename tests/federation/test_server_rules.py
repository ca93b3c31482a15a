"""Server rules in whole rounds: closed forms written here again, memory through files, and clients that cheat."""

import numpy as np
import pytest
import torch
from toy import D, Toy, bits, start

from fcit_plugin.federation.client import TrainingResult
from fcit_plugin.federation.messages import ARRAYS, METRICS, NUM_EXAMPLES, SHARED
from fcit_plugin.federation.rules import _warn_once
from fcit_plugin.federation.server_rules import SERVER_RULES
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import save_state

#: Parameters that differ from all defaults.
KEYS = {
    "fedavg": {},
    "fedprox": {"fcit_proximal_mu": 0.5},
    "scaffold": {},
    "fedavgm": {"fcit_server_learning_rate": 0.7, "fcit_server_momentum": 0.6},
    "fedadam": {
        "fcit_server_learning_rate": 0.3,
        "fcit_server_tau": 0.2,
        "fcit_server_beta1": 0.8,
        "fcit_server_beta2": 0.7,
    },
    "fedyogi": {
        "fcit_server_learning_rate": 0.3,
        "fcit_server_tau": 0.2,
        "fcit_server_beta1": 0.8,
        "fcit_server_beta2": 0.7,
    },
    "fedadagrad": {"fcit_server_learning_rate": 0.3, "fcit_server_tau": 0.2},
    "fedmedian": {},
    "trimmed_mean": {"fcit_trim_fraction": 0.3},
    "krum": {"fcit_num_malicious": 1},
    "multi_krum": {"fcit_num_malicious": 1},
}


def mean(x, replies, n):
    return np.average(replies, axis=0, weights=n)


def momentum(x, replies, n, memory, lr=0.7, mu=0.6):
    memory["v"] = mu * memory.get("v", 0) + x - mean(x, replies, n)
    return x - lr * memory["v"]


def adaptive(second, correct=False, b1=0.8, b2=0.7, eta=0.3, tau=0.2):
    """Reddi et al. 2021, algorithm 2, with moments from zero."""

    def step(x, replies, n, memory):
        delta = mean(x, replies, n) - x
        t = memory["t"] = memory.get("t", 0) + 1
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * delta
        memory["v"] = second(memory.get("v", np.zeros_like(x)), delta**2, b2)
        rate = eta * np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1)) if correct else eta
        return x + rate * memory["m"] / (np.sqrt(memory["v"]) + tau)

    return step


def trimmed(x, replies, n):
    cut = int(0.3 * len(replies))
    return np.sort(replies, axis=0)[cut : len(replies) - cut].mean(axis=0)


def krum_order(replies, malicious):
    """Blanchard et al. 2017: clients by the sum of squared distances to their n - f - 2 nearest."""
    near = max(1, len(replies) - malicious - 2)
    score = [sum(sorted(((a - b) ** 2).sum() for j, b in enumerate(replies) if j != i)[:near]) for i, a in enumerate(replies)]
    return np.argsort(score, kind="stable")


def krum(x, replies, n):
    return replies[krum_order(replies, 1)[0]]


def multi_krum(x, replies, n):
    best = krum_order(replies, 1)[: max(1, len(replies) - 1)]
    return np.average(np.array(replies)[best], axis=0, weights=np.array(n)[best])


#: From weights x, replies and numbers of examples (and a memory) to the new weights.
FORMULAS = {
    "fedavg": mean,
    "fedprox": mean,
    "scaffold": mean,
    "fedavgm": momentum,
    "fedadam": adaptive(lambda v, d2, b2: b2 * v + (1 - b2) * d2, correct=True),
    "fedyogi": adaptive(lambda v, d2, b2: v - (1 - b2) * d2 * np.sign(v - d2)),
    "fedadagrad": adaptive(lambda v, d2, b2: v + d2, b1=0.0),
    "fedmedian": lambda x, replies, n: np.median(replies, axis=0),
    "trimmed_mean": trimmed,
    "krum": krum,
    "multi_krum": multi_krum,
}
WITH_MEMORY = ("fedavgm", "fedadam", "fedyogi", "fedadagrad")


def flat(tensors):
    return np.concatenate([np.asarray(tensors[key], np.float64).ravel() for key in sorted(tensors)])


class Recorded(Toy):
    """A toy federation that keeps every update that arrives."""

    def __init__(self, **changes):
        super().__init__(on_reply=self.record, **changes)
        self.updates = []

    def record(self, request, reply):
        if ARRAYS in reply.content:
            self.updates.append(reply)


def absent(toy, clients):
    """Nobody asks these clients from now on."""
    work = toy.program.work
    toy.program.work = lambda *at: {c: config for c, config in work(*at).items() if c not in clients}
    return work


def test_every_rule_of_our_own_is_tested_and_documented_with_its_keys():
    assert set(FORMULAS) == set(KEYS) == set(SERVER_RULES)


@pytest.mark.parametrize("rule", FORMULAS)
def test_rounds_equal_the_closed_form_for_each_subspace_and_the_projector(rule):
    """Three rounds; the subspace of client 3 opens in the second, with the rule's memory at zero."""
    toy = Recorded(fcit_server_rule=rule, **KEYS[rule])
    everyone = absent(toy, {3})
    state, memories = start(), {}
    for number in range(3):
        if number == 1:
            toy.program.work = everyone
        before, toy.updates, toy.heard.rows = state, [], []
        state = toy.round(before)
        owner = {row["client"]: row["subspace"] for row in toy.heard.rows}
        parts = {k: [u for u in toy.updates if owner[u.metadata.src_node_id] == k] for k in set(owner.values())}
        fresh = toy.program.fresh(0)
        todo = [(k, fresh if k >= len(before.subspaces) else before.subspaces[k], ARRAYS, state.subspaces[k]) for k in parts]
        todo.append((SHARED, before.shared, SHARED, state.shared))
        for k, x, record, found in todo:
            updates = parts.get(k, toy.updates)
            replies = [flat({key: array.numpy() for key, array in u.content[record].items()}) for u in updates]
            n = [u.content[METRICS][NUM_EXAMPLES] for u in updates]
            more = (memories.setdefault(k, {}),) if rule in WITH_MEMORY else ()
            np.testing.assert_allclose(flat(found), FORMULAS[rule](flat(x), replies, n, *more), rtol=2e-5, atol=2e-6)
    assert len(state.subspaces) == 5
    assert bool(state.rules) == (rule in (*WITH_MEMORY, "scaffold"))


@pytest.mark.parametrize("rule", FORMULAS)
def test_a_run_that_goes_on_from_a_state_folder_gives_the_bits_of_one_that_was_never_stopped(rule, tmp_path):
    toy = Toy(fcit_server_rule=rule, fcit_num_rounds=4, **KEYS[rule])
    state = start()
    for number in range(4):
        if number == 2:
            save_state(state, tmp_path, {}, {})
        state = toy.round(state)
    resumed = StateFolder(tmp_path).load()
    again = Toy(fcit_server_rule=rule, fcit_num_rounds=4, **KEYS[rule])
    for _ in range(2):
        resumed = again.round(resumed)
    assert bits(resumed) == bits(state)


@pytest.mark.parametrize("rule", FORMULAS)
def test_one_reply_alone_is_enough(rule):
    toy = Toy(without=set(range(1, 7)), fcit_server_rule=rule, **KEYS[rule])
    after = toy.round()
    assert all(bool(value.isfinite().all()) for value in after.subspaces[0].values())
    moved = (after.subspaces[0]["l.lora_B.weight"] - start().subspaces[0]["l.lora_B.weight"]).abs().max()
    assert 0.01 < moved < 10


class Quadratic:
    """Clients 0..19 of two kinds that go half of the way to an optimum: their kind's, up to a little noise of their own.

    The first fifth of each kind cheats: what they send is ``attack`` of start and honest weights.
    """

    def __init__(self, attack):
        self.attack = attack

    def token(self, config):
        mean = np.zeros(D, np.float32)
        mean[config.client % 2] = 1
        return ClientToken(config.client, mean, 5, 10)

    def train(self, config, subspace, shared, extras):
        client = config.client
        generator = torch.Generator().manual_seed(1000 + client)
        honest = {
            key: value + 0.5 * (optimum(client % 2) + 0.05 * torch.randn(value.shape, generator=generator) - value)
            for key, value in subspace.items()
        }
        if client < 4:
            honest = {key: self.attack(subspace[key], value) for key, value in honest.items()}
        return TrainingResult(honest, shared, 0.1)


def optimum(kind):
    return 1.0 if kind else -2.0


ATTACKS = {
    "none": lambda start, trained: trained,
    "sign-flipped": lambda start, trained: start - 4 * (trained - start),
    "scaled": lambda start, trained: start + 50 * (trained - start),
    "a wall of one number": lambda start, trained: torch.full_like(start, 7.0),
}


def distance(rule, attack, **keys):
    """Largest distance of a weight to its kind's optimum after 12 rounds of 20 clients, 2 of 10 of each kind cheating."""
    toy = Toy(
        local=Quadratic(ATTACKS[attack]),
        fcit_server_rule=rule,
        fcit_num_clients=20,
        fcit_clients_per_round=20,
        fcit_num_rounds=12,
        fcit_max_round_retries=0,
        **keys,
    )
    state = start()
    for _ in range(12):
        state = toy.round(state)
    assert len(state.subspaces) == 2
    return max((w - optimum(kind)).abs().max().item() for kind in (0, 1) for w in state.subspaces[kind].values())


@pytest.mark.thorough
@pytest.mark.parametrize("attack", ["sign-flipped", "scaled", "a wall of one number"])
def test_a_fifth_of_the_clients_cheats_and_robust_rules_hold_where_the_average_falls(attack):
    honest = distance("fedavg", "none")
    assert honest < 0.1
    assert distance("fedavg", attack) > 10 * honest
    for rule, keys in (
        ("fedmedian", {}),
        ("trimmed_mean", {"fcit_trim_fraction": 0.2}),
        ("krum", {"fcit_num_malicious": 2}),
        ("multi_krum", {"fcit_num_malicious": 2}),
    ):
        assert distance(rule, attack, **keys) < 0.25, rule


def test_a_robust_rule_with_too_few_replies_says_so_once(caplog):
    _warn_once.cache_clear()  # another test may have been told
    toy = Toy(fcit_server_rule="krum", fcit_num_malicious=2)
    with caplog.at_level("WARNING", logger="fcit_plugin"):
        state = toy.round()
        toy.round(state)
    said = [line for line in caplog.messages if "withstands bad clients from 7 replies on" in line]
    assert len(said) == len(set(said)) > 0
