"""Clients of one subspace one after the other: against trainings done by hand, and what the server makes of one client."""

import dataclasses

import numpy as np
import pytest
import torch
from secure_toy import CLIENTS, KEYS, SECURE, SITES, Clock, Link
from sites import SIGNER, identity_of, site_app
from test_parallel_grid import Parallel, same
from test_server import Federation
from toy import BLANK, PROJECTOR, Local, Toy, bits, noise, squares, start

from fcit_plugin.adapters.lora import select_factors
from fcit_plugin.errors import FcitError
from fcit_plugin.federation.client import TrainingResult, make_client_app
from fcit_plugin.federation.compression import COMPRESSIONS
from fcit_plugin.federation.messages import config_of
from fcit_plugin.federation.reply_cache import NoJournal, ReplyCache
from fcit_plugin.federation.server import RoundFailed
from fcit_plugin.federation.site_executor import answer_of
from fcit_plugin.federation.site_grid import SiteGrid
from fcit_plugin.knowledge.identity_tokens import SubspaceTokens
from fcit_plugin.knowledge.prototypes import Prototypes
from fcit_plugin.plugins import registry
from fcit_plugin.state.server_state import ServerState

RELAY = {"fcit_round_order": "relay"}
#: All seven clients train one subspace.
ONE_CHAIN = RELAY | {"fcit_method": "sequential"}


class Halves(Local):
    """Halves what it begins with and adds the client's own noise: what comes out depends on who was there before.

    Args:
        bad: By client what it does in place of training.
    """

    #: Whether clients tell their kinds of instructions, of which each has one.
    kinds = False

    def __init__(self, bad=None):
        self.trained, self.links, self.bad = [], {}, bad or {}

    def token(self, config):
        token = super().token(config)
        kinds = Prototypes(token.mean[None].astype(np.float32), np.array([token.count])) if self.kinds else None
        return dataclasses.replace(token, kinds=kinds)

    def train(self, config, subspace, shared, extras):
        self.trained.append(config.client)
        self.links[config.client] = config.link
        result = halved(config.client, config.round, subspace, shared)
        measured = {name: squares(500 + config.client, subspace | shared) for name in config.wants}
        if config.client in self.bad:
            result = self.bad[config.client](*result)
        return TrainingResult(*result, 0.5, measured)


def halved(client, round, subspace, shared):
    step = noise(1 + client + 100 * round, subspace | shared)
    return tuple({key: value / 2 + step[key] for key, value in part.items()} for part in (subspace, shared))


def by_hand(chain, subspace, shared, round=0):
    """What a chain comes to."""
    for client in chain:
        subspace, shared = halved(client, round, subspace, shared)
    return subspace, shared


def some(*clients):
    """Arguments of a toy that has these clients alone."""
    return {"without": set(range(7)) - set(clients)}


def empty():
    """A state before the first round."""
    return ServerState(SubspaceTokens.empty(6), noise(50, PROJECTOR), [])


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def order_of(chain, toy, round=0):
    return sorted(chain, key=lambda client: toy.program.turn(0, round, client))


def test_two_clients_of_one_subspace_are_one_training_after_the_other():
    toy = Toy(**some(0, 1), local=Halves(), **RELAY)
    after, before = toy.round(), start()
    assert sorted(toy.local.trained) == [0, 1]
    subspace, shared = by_hand(toy.local.trained, before.subspaces[0], before.shared)
    assert equal(after.subspaces[0], subspace) and equal(after.shared, shared)
    assert equal(after.subspaces[1], before.subspaces[1])


def test_chains_go_on_beside_each_other_and_weigh_by_the_examples_of_all_their_links():
    toy = Toy(**some(0, 1, 2), local=Halves(), **RELAY)
    after, before = toy.round(), start()
    first, shared = by_hand(order_of([0, 1], toy), before.subspaces[0], before.shared)
    second, other = by_hand([2], before.subspaces[1], before.shared)
    assert equal(after.subspaces[0], first) and equal(after.subspaces[1], second)
    expected = ((20 + 21) * shared["projector.weight"].double() + 22 * other["projector.weight"].double()) / (20 + 21 + 22)
    torch.testing.assert_close(after.shared["projector.weight"].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clients", [(0, 2, 3, 4), (5,), range(7)])
def test_all_but_the_weights_is_as_in_parallel(clients):
    """Who trains what, tokens, counts, loss and bytes are DISCO's; with one client in each subspace the weights are, too."""
    relay, parallel = (Toy(**some(*clients), local=Halves(), **keys) for keys in (RELAY, {}))
    mine, theirs = bits(relay.round()), bits(parallel.round())
    weights = {"subspaces", "shared"} if len(clients) == 7 else set()
    for key in mine.keys() - weights:
        assert mine[key] == theirs[key], key
    assert all(mine[key] != theirs[key] for key in weights)
    heard = [(toy.heard.rows, toy.heard.loss, vars(toy.traffic)) for toy in (relay, parallel)]
    assert heard[0] == heard[1]


class OneClient(Halves):
    """A client that trains as a whole chain does, on its own."""

    def __init__(self, chain, order):
        super().__init__()
        self.chain, self.order = chain, order

    def token(self, config):
        return dataclasses.replace(super().token(config), num_examples=sum(20 + client for client in self.chain))

    def train(self, config, subspace, shared, extras):
        for client in self.order(self.chain, config.round):
            trained, shared = halved(client, config.round, subspace, shared)
            subspace = subspace | select_factors(trained, config.trains)
        return TrainingResult(subspace, shared, 0.5, {name: squares(500, subspace | shared) for name in config.wants})


def methods():
    return {name for name, part in registry("methods").items() if part.package.startswith("fcit-plugin")}


PARTS = [
    *({"fcit_server_rule": rule} for rule, part in sorted(registry("server_rules").items()) if part.sees_mean_alone),
    *({"fcit_lora_aggregation": name, "fcit_method": "sequential"} for name in sorted(registry("lora_aggregations"))),
    *({"fcit_method": name} for name in sorted(methods())),
]


@pytest.mark.parametrize("keys", PARTS, ids=lambda keys: "-".join(keys.values()))
def test_to_the_server_a_chain_is_one_client_with_all_examples(keys):
    """Every rule, aggregation and method, over three rounds with what they remember."""
    relay = Toy(**some(0, 1), local=Halves(), **RELAY, **keys)
    one = Toy(**some(0), local=OneClient([0, 1], lambda chain, round: order_of(chain, relay, round)), **keys)
    relay.local.kinds = one.local.kinds = relay.program.method.reports_kinds
    measured = {"method state"} if relay.program.method.wants_more() else set()
    states = [empty(), empty()]
    for _ in range(3):
        states = [toy.round(state) for toy, state in zip((relay, one), states, strict=True)]
        mine, theirs = map(bits, states)
        for key in mine.keys() - {"tokens", "tasks", "own cosines"} - measured:
            assert mine[key] == theirs[key], key


def test_what_a_method_measures_is_that_of_every_link():
    """EWC's importance is the mean over all clients of the round, as in parallel."""
    states = [
        Toy(local=Halves(), fcit_method="ewc", fcit_num_rounds=1, **keys).round(empty()).method_state for keys in (RELAY, {})
    ]
    fisher = [{key: value for key, value in state.items() if key.startswith("fisher")} for state in states]
    assert fisher[0] and equal(*fisher)


def raises(subspace, shared):
    raise FcitError("its disk is full")


BAD = {
    "fails": raises,
    "not a number": lambda subspace, shared: ({key: value * np.nan for key, value in subspace.items()}, shared),
    "too far": lambda subspace, shared: (subspace, {key: value + 1e4 for key, value in shared.items()}),
    "of another shape": lambda subspace, shared: ({key: value[:1] for key, value in subspace.items()}, shared),
}


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("bad", BAD)
def test_whoever_is_left_out_leaves_no_trace_and_the_chain_goes_on(bad, place):
    client = order_of(range(7), Toy())[place]
    keys = ONE_CHAIN | {"fcit_max_update_norm": 1000.0}
    toy = Toy(local=Halves({client: BAD[bad]}), **keys)
    found = toy.round(empty())
    assert [row["client"] for row in toy.heard.dropped] == [client]
    expected = Toy(without={client}, local=Halves(), **keys).round(empty())
    assert bits(found) == bits(expected)
    assert toy.local.trained == order_of(range(7), toy)


def test_a_turn_depends_on_nobody_else_and_differs_from_round_to_round():
    toy = Toy(local=Halves(), **ONE_CHAIN)
    orders, state = [], empty()
    for _ in range(3):
        toy.local.trained.clear()
        state = toy.round(state)
        orders.append(list(toy.local.trained))
    assert len(set(map(tuple, orders))) == 3
    fewer = Toy(**some(1, 3, 4, 6), local=Halves(), **ONE_CHAIN)
    fewer.round(empty())
    assert fewer.local.trained == [client for client in orders[0] if client in (1, 3, 4, 6)]
    firsts = {order_of(range(7), toy, round)[0] for round in range(100)}
    assert firsts == set(range(7)), "nobody is always first"


def test_replies_in_any_order_give_the_same():
    toy, other = (Toy(local=Halves(), **RELAY) for _ in range(2))
    send = other.grid.send_and_receive
    other.grid.send_and_receive = lambda messages: reversed(list(send(messages)))
    assert bits(toy.round()) == bits(other.round())


def test_who_was_asked_keeps_the_subspace_whoever_drops_out():
    """6 is like 4 and like 5, which are not like each other: without it they would open two subspaces."""
    assert len(Toy(**some(4, 5), **RELAY).round().subspaces) == 4
    toy = Toy(**some(4, 5, 6), local=Halves({6: raises}), **RELAY)
    after = toy.round()
    assert len(after.subspaces) == 3
    chain = order_of([4, 5], toy)
    assert equal(after.subspaces[2], by_hand(chain, toy.program.fresh(0), start().shared)[0])


def test_a_new_subspace_that_nobody_has_trained_leaves_no_number():
    toy = Toy(**some(3, 5), local=Halves({3: raises}), **RELAY)
    after = toy.round()
    assert [(row["client"], row["subspace"]) for row in toy.heard.rows] == [(5, 2)]
    assert len(after.subspaces) == 3


def test_nobody_is_asked_once_too_few_can_reply():
    toy = Toy(local=Halves(), fcit_min_replies=6, fcit_max_round_retries=0, **ONE_CHAIN)
    order = order_of(range(7), toy)
    toy.local.bad = {order[0]: raises, order[2]: raises}
    with pytest.raises(RoundFailed, match="its disk is full"):
        toy.round(empty())
    assert toy.local.trained == order[:3]


def test_an_update_is_compared_with_those_before_it_in_the_round():
    toy = Toy(local=Halves(), fcit_max_norm_ratio=10.0, **ONE_CHAIN)
    last = order_of(range(7), toy)[-1]
    toy.local.bad = {last: BAD["too far"]}
    toy.round(empty())
    (row,) = toy.heard.dropped
    assert row["client"] == last and "times the round's median" in row["reason"]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_changes_are_to_what_the_client_was_sent(name):
    """By hand over two rounds, with what rounding has taken from each client, and from it alone."""
    toy = Toy(**some(0, 1), local=Halves(), fcit_update_compression=name, **RELAY)
    compression, residuals, state = COMPRESSIONS[name], {}, start()
    weights = {**state.subspaces[0], **state.shared}
    for round in range(2):
        state = toy.round(state)
        for client in order_of([0, 1], toy, round):
            subspace, shared = ({key: weights[key] for key in like} for like in (BLANK, PROJECTOR))
            trained = {key: value for part in by_hand([client], subspace, shared, round) for key, value in part.items()}
            for key, value in trained.items():
                change = value.numpy() - weights[key].numpy() + residuals.get((client, key), np.float32(0))
                decoded = compression.decode(*compression.encode(change))
                if compression.feedback:
                    residuals[client, key] = change - decoded
                weights[key] = torch.from_numpy(weights[key].numpy() + decoded)
        for key, value in weights.items():
            found = {**state.subspaces[0], **state.shared}[key]
            torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)


class Killed(BaseException):
    """Stands for the end of the process."""


def keeping(folder, **keys):
    """Arguments of a toy whose replies are kept in a folder."""
    caches = []

    def wrap(app):
        caches.append(ReplyCache(app, lambda stage, round: folder / f"{stage}-{round}", "this run", NoJournal()))
        return caches[0]

    return {"wrap": wrap, "on_reply": lambda request, reply: caches[0].arrived(request, reply), "local": Halves(), **keys}


@pytest.mark.parametrize(
    "keys",
    [
        ONE_CHAIN,
        *(pytest.param(RELAY | more, marks=pytest.mark.thorough) for more in ({}, {"fcit_update_compression": "int8"})),
    ],
)
@pytest.mark.parametrize("die_at", range(7))
def test_killed_at_any_link_the_others_do_not_train_again_and_the_end_is_the_same(tmp_path, die_at, keys):
    whole = Toy(**keeping(tmp_path / "whole", **keys))
    end = bits(whole.round(empty()))
    assert end == bits(Toy(local=Halves(), **keys).round(empty())), "arrays that are read from files are the same"
    first = Toy(**keeping(tmp_path / "kept", **keys))
    train = first.local.train

    def dying(*given):
        if len(first.local.trained) == die_at:
            raise Killed()
        return train(*given)

    first.local.train = dying
    with pytest.raises(Killed):
        first.round(empty())
    second = Toy(**keeping(tmp_path / "kept", **keys))
    assert bits(second.round(empty())) == end
    assert first.local.trained + second.local.trained == whole.local.trained


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("method", ["disco", "sequential"])
def test_any_number_of_processes_comes_to_the_state_of_one(tmp_path, count, method):
    keys = RELAY | {"fcit_method": method}
    schedule = [[0, 1, 0], [1, 0, 1]]
    found = Parallel(count, tmp_path, schedule=schedule, crew={"delays": (0, 0.02, 0.01)}, **keys).run()
    same(Federation([["a"], ["b"]], schedule=schedule, **keys).run(), found)


class OverNetwork(Toy):
    """The toy whose clients are sites behind a link, with real envelopes, policies and folders."""

    def __init__(self, folder, **changes):
        network = {key: value for key, value in SECURE.items() if not key.startswith(("fcit_secure", "fcit_max"))}
        super().__init__(**network | changes)
        policy = {"run": self.program.run_id, "schedule": [[0]], "num_stages": 1, "records": {0: 40}, "names": ["a"]}
        policy["compression"] = changes.get("fcit_update_compression")
        app = make_client_app(self.local)
        self.apps = {client: site_app(app, folder / f"site-{client}", **policy) for client in CLIENTS}
        self.link, clock = Link(self), Clock()
        cache = ReplyCache(None, lambda stage, round: folder / f"{stage}-{round}", "run", NoJournal())
        sites = dict(enumerate(SITES))
        self.grid = SiteGrid(self.link, SIGNER, sites, cache, patience=600.0, timeout=50.0, clock=clock, sleep=clock.sleep)

    def answer(self, client, message):
        return answer_of(self.apps[client], identity_of(KEYS[client]), message)


@pytest.mark.parametrize("keys", [RELAY, ONE_CHAIN, RELAY | {"fcit_schedule_over": "chain", "fcit_update_compression": "bf16"}])
def test_over_a_network_the_round_is_that_of_one_process(tmp_path, keys):
    toy, sites = Toy(local=Halves(), **keys), OverNetwork(tmp_path, local=Halves(), **keys)
    begin = empty() if "fcit_method" in keys else start()
    assert bits(sites.round(begin)) == bits(toy.round(begin))
    assert sites.local.trained == toy.local.trained
    assert sites.heard.rows == toy.heard.rows and vars(sites.traffic) == vars(toy.traffic)


def test_a_site_whose_recipe_has_clients_in_parallel_takes_part_in_no_relay():
    """What a site returns goes to another site in a relay, so each of them has to say so."""
    assert Toy(**RELAY).program.run_id != Toy().program.run_id


ROUNDS = 3
#: Who has which piece of how many in round r, as client i of n of its subspace.
PIECES = {
    ("relay", "client"): lambda r, i, n: None,
    ("relay", "chain"): lambda r, i, n: (i, n),
    ("relay", "stage"): lambda r, i, n: (r * n + i, ROUNDS * n),
    ("parallel", "client"): lambda r, i, n: None,
    ("parallel", "stage"): lambda r, i, n: (r, ROUNDS),
}


@pytest.mark.parametrize(("order", "schedule"), PIECES)
@pytest.mark.parametrize("round", range(ROUNDS))
def test_everybody_is_told_its_piece_of_a_schedule_that_is_shared(order, schedule, round):
    asked = {}
    toy = Toy(
        local=Halves(),
        on_reply=lambda request, reply: asked.setdefault(config_of(request).client, []).append(config_of(request).link),
        fcit_schedule_over=schedule,
        fcit_round_order=order,
        fcit_num_rounds=ROUNDS,
    )
    toy.round(dataclasses.replace(start(), round=round))
    chains = [order_of(chain, toy, round) for chain in ([0, 1], [2], [3], [4, 5, 6])]
    piece = PIECES[order, schedule]
    expected = {client: piece(round, place, len(chain)) for chain in chains for place, client in enumerate(chain)}
    assert toy.local.links == expected
    assert all(links == [None, toy.local.links[client]] for client, links in asked.items()), "a query names no place"


def test_the_pieces_of_a_stage_follow_each_other_without_a_gap():
    """Whatever the number of rounds and clients: where one round's last piece ends, the next round's first one begins."""
    for rounds, links in [(1, 1), (1, 4), (3, 1), (2, 2), (5, 3)]:
        program = Toy(**RELAY, fcit_schedule_over="stage", fcit_num_rounds=rounds).program
        pieces = [program.piece(round, place, links) for round in range(rounds) for place in range(links)]
        assert pieces == [(place, rounds * links) for place in range(rounds * links)]
