"""Whole rounds with secure sums over sites: the state is start plus the mean of plain integers, to the bit."""

import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from secure_toy import CLIENTS, Counting, SecureToy
from sums import plain_sum
from toy import E, bits, noise, start

from fcit_plugin.federation.envelope import ENVELOPE
from fcit_plugin.federation.secure_sum.parts import SumBounds, Update
from fcit_plugin.federation.secure_sum.texts import STEPS
from fcit_plugin.federation.server import RoundFailed
from fcit_plugin.plugins import registry


@pytest.fixture
def tmp_path():
    """In memory where that can be: every step of every site is forced to the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


ONE = {"fcit_method": "sequential"}
#: Four like subspace 0, and three of a new kind.
FOUR_AND_THREE = {client: E[0] if client < 4 else E[3] for client in CLIENTS}


def one_subspace():
    """A state with one subspace and a projector, as a method without tokens has it."""
    state = start()
    state.subspaces, state.tasks = state.subspaces[:1], state.tasks[:1]
    state.tokens = type(state.tokens)(10 * E[:1], np.full(1, 10, np.int64))
    return state


BOUNDS = SumBounds(3, 32.0, 64)


def drawn(state, k):
    """What a client's noise is drawn for: subspace and projector together, as `Local` has them."""
    return {**state.subspaces[k], **state.shared}


def expected_part(whole, part, clients, members, round):
    """Start + the mean change in whole numbers, as bytes.

    Args:
        whole: All tensors that a client's noise is drawn for.
        part: Those of the sum, as they were before.
        clients: Who is in the sum.
        members: How many the numbers were made for: those that had keys.
        round: The round.
    """
    updates = []
    for client in clients:
        step = noise(1 + client + 100 * round, whole)
        change = {key: (part[key] + step[key]).numpy() - part[key].numpy() for key in part}
        updates.append(Update(20 + client, 0.5, {"sum": change}))
    weight, *total = plain_sum(updates, "sum", members, BOUNDS)
    scale = (2**31 - 1 - members) / (members * BOUNDS.largest)
    mean = np.array(total, np.float64) * (BOUNDS.most_examples / scale / weight)
    found, at = {}, 0
    for key, value in sorted(part.items()):
        change = mean[at : at + value.numel()].reshape(value.shape)
        found[key], at = (value.numpy() + change).astype(np.float32).tobytes(), at + value.numel()
    return found


def raw(state):
    return {key: value.numpy().tobytes() for key, value in sorted(state.items())}


def check_one(begin, after, clients, members=7, round=0):
    whole = drawn(begin, 0)
    assert raw(after.subspaces[0]) == expected_part(whole, begin.subspaces[0], clients, members, round)
    assert raw(after.shared) == expected_part(whole, begin.shared, clients, members, round)


def test_a_round_is_the_plain_mean_of_whole_numbers_and_close_to_the_usual_one(tmp_path):
    begin, secure = one_subspace(), SecureToy(tmp_path, **ONE)
    after = secure.round(begin)
    check_one(begin, after, CLIENTS)
    plain = SecureToy(tmp_path, secure=False, **ONE)
    usual = plain.round(one_subspace())
    for part, other in ((after.subspaces[0], usual.subspaces[0]), (after.shared, usual.shared)):
        assert all(torch.allclose(part[key], other[key], atol=1e-5) for key in part)
    assert (after.tokens.sums == usual.tokens.sums).all() and after.tasks == usual.tasks and after.rounds == usual.rounds
    assert secure.heard.rows == plain.heard.rows and not secure.heard.dropped
    assert secure.heard.loss == pytest.approx(0.5, abs=1e-5) and secure.heard.errors == [{}]
    assert secure.traffic.up > 0


def test_round_after_round_goes_on(tmp_path):
    secure, state = SecureToy(tmp_path, **ONE), one_subspace()
    for round in range(3):
        after = secure.round(state)
        check_one(state, after, CLIENTS, round=round)
        state = after
    assert len(secure.local.trained) == 3 * len(CLIENTS)


@pytest.mark.parametrize("step", STEPS)
def test_whoever_drops_out_at_a_step_is_named_and_the_others_are_summed(step, tmp_path):
    begin, secure = one_subspace(), SecureToy(tmp_path, gone={2: step, 5: step}, **ONE)
    after = secure.round(begin)
    there = CLIENTS if step in ("agree", "unmask") else [0, 1, 3, 4, 6]
    members = 5 if step == "keys" else 7
    check_one(begin, after, there, members)
    assert [row["client"] for row in secure.heard.rows] == there
    dropped = {} if step in ("agree", "unmask") else {2: "took longer", 5: "took longer"}
    assert {each["client"] for each in secure.heard.dropped} == set(dropped)
    assert all("took longer than 50 s" in each["reason"] for each in secure.heard.dropped)


def test_every_message_delivered_twice_ends_in_the_same_bits(tmp_path):
    once, twice = (SecureToy(tmp_path / str(times), times=times, **ONE) for times in (1, 2))
    assert bits(once.round(one_subspace())) == bits(twice.round(one_subspace()))
    assert len(twice.local.trained) == len(CLIENTS)


class Killed(Exception):
    pass


ASKED = [
    pytest.param((step, client), marks=() if client == 4 else pytest.mark.thorough, id=f"{step}-{client}")
    for step in ("query", *STEPS)
    for client in (0, 4, 6)
]


@pytest.mark.parametrize("at", ASKED)
def test_a_server_that_is_killed_anywhere_goes_on_to_the_same_bits_and_nobody_trains_twice(at, tmp_path):
    killed = []

    def before(step, client):
        if (step, client) == at and not killed:
            killed.append(at)
            raise Killed

    secure = SecureToy(tmp_path / "killed", before=before, **ONE)
    with pytest.raises(Killed):
        secure.round(one_subspace())
    secure.start_server()
    after = secure.round(one_subspace())
    undisturbed = SecureToy(tmp_path / "undisturbed", **ONE)
    assert bits(after) == bits(undisturbed.round(one_subspace()))
    assert sorted(secure.local.trained) == sorted(undisturbed.local.trained)


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step in ("train", "unmask") else pytest.mark.thorough) for step in STEPS]
)
def test_sites_that_are_started_again_before_a_step_go_on_to_the_same_bits(step, tmp_path):
    def before(at, client):
        if at == step:
            secure.apps[client] = secure.site(client)

    secure = SecureToy(tmp_path / "again", before=before, **ONE)
    undisturbed = SecureToy(tmp_path / "undisturbed", **ONE)
    assert bits(secure.round(one_subspace())) == bits(undisturbed.round(one_subspace()))


def test_a_server_without_its_log_gets_no_second_sum(tmp_path):
    secure = SecureToy(tmp_path, fcit_max_round_retries=0, **ONE)
    secure.round(one_subspace())
    for path in (tmp_path / "server").rglob("sums-*.json"):
        path.unlink()
    with pytest.raises(RoundFailed, match="A sum over this update was opened before"):
        secure.round(one_subspace())


def test_a_round_with_too_few_opens_nothing_and_is_tried_again(tmp_path):
    """Three are gone in the first attempt; all six of it that are needed are there in the second."""
    secure = SecureToy(tmp_path, gone=dict.fromkeys((1, 2, 3), "train"), fcit_min_replies=5, **ONE)
    asked = []

    def before(step, client):
        asked.append((step, client))
        if asked.count(("keys", 0)) == 2:
            secure.link.gone = {}

    secure.link.before = before
    begin = one_subspace()
    check_one(begin, secure.round(begin), CLIENTS)
    assert sum(step == "agree" for step, _ in asked) == 7
    assert sorted(secure.local.trained) == [(client, 0, 0) for client in CLIENTS]  # those that were there did not train again


# several subspaces


def test_subspaces_open_for_themselves_and_the_projector_over_all(tmp_path):
    begin, secure = start(), SecureToy(tmp_path, local=Counting(FOUR_AND_THREE))
    after = secure.round(begin)
    assert len(after.subspaces) == 3 and after.rounds == {0: 1, 2: 1}
    fresh = secure.program.fresh(0)
    assert raw(after.subspaces[0]) == expected_part(drawn(begin, 0), begin.subspaces[0], [0, 1, 2, 3], 4, 0)
    whole = {**fresh, **begin.shared}
    assert raw(after.subspaces[2]) == expected_part(whole, fresh, [4, 5, 6], 3, 0)
    assert raw(after.shared) == expected_part(drawn(begin, 0), begin.shared, CLIENTS, 7, 0)
    assert raw(after.subspaces[1]) == raw(begin.subspaces[1])


@pytest.mark.parametrize("step", STEPS)
def test_a_new_subspace_whose_clients_drop_out_leaves_no_trace(step, tmp_path):
    begin, secure = start(), SecureToy(tmp_path, local=Counting(FOUR_AND_THREE), gone={5: step})
    after = secure.round(begin)
    if step in ("agree", "unmask"):
        assert len(after.subspaces) == 3
        return
    assert len(after.subspaces) == 2 and after.tokens.num_subspaces == 2
    assert [row["client"] for row in secure.heard.rows] == [0, 1, 2, 3]
    why = {each["client"]: each["reason"] for each in secure.heard.dropped}
    assert set(why) == {4, 5, 6} and "2 clients are left in the sum of subspace 2, of at least 3" in why[4]
    assert raw(after.subspaces[0]) == expected_part(drawn(begin, 0), begin.subspaces[0], [0, 1, 2, 3], 4, 0)


@pytest.mark.parametrize("gone", CLIENTS)
@pytest.mark.parametrize("first", [3, 4])
def test_whoever_is_gone_the_other_subspace_and_the_projector_go_on_also_in_a_server_begun_again(first, gone, tmp_path):
    """The one whose absence leaves a subspace with two may be in either, and the lowest number of all, too."""
    begin, tokens = start(), {client: E[0] if client < first else E[3] for client in CLIENTS}
    secure = SecureToy(tmp_path, local=Counting(tokens), gone={gone: "train"})
    after = secure.round(begin)
    parts = [[client for client in CLIENTS if (client < first) == low and client != gone] for low in (True, False)]
    there = [client for part in parts if len(part) >= 3 for client in part]
    assert [row["client"] for row in secure.heard.rows] == there
    left = [client for client in CLIENTS if client != gone]
    assert raw(after.shared) == expected_part(drawn(begin, 0), begin.shared, left, 7, 0)
    secure.start_server()
    assert raw(secure.round(begin).shared) == raw(after.shared)


def test_a_subspace_with_too_few_clients_is_left_out_before_it_trains(tmp_path):
    tokens = FOUR_AND_THREE | {5: E[1], 6: E[1]}  # subspace 1 has two, and 4 is alone
    secure = SecureToy(tmp_path, local=Counting(tokens))
    after = secure.round(start())
    assert {client for client, *_ in secure.local.trained} == {0, 1, 2, 3}
    why = {each["client"]: each["reason"] for each in secure.heard.dropped}
    assert set(why) == {4, 5, 6} and all("of at least 3 clients in this round" in each for each in why.values())
    assert len(after.subspaces) == 2


def test_a_round_without_any_sum_fails_and_says_why(tmp_path):
    tokens = {client: E[client % 6] if client < 6 else E[0] for client in CLIENTS}
    secure = SecureToy(tmp_path, local=Counting(tokens), fcit_max_round_retries=0)
    with pytest.raises(RoundFailed, match="fcit_secure_min_clients"):
        secure.round(start())
    assert not secure.local.trained


GOES = sorted(name for name, rule in registry("server_rules").items() if rule.sees_mean_alone)


@pytest.mark.parametrize(
    ("rule", "aggregation"),
    [*itertools.product(GOES, ["factors"]), *itertools.product(["fedavg"], ["refactor", "ffa", "rotate"])],
)
def test_what_goes_with_secure_sums_is_close_to_what_it_is_without(rule, aggregation, tmp_path):
    keys = {"fcit_server_rule": rule, "fcit_lora_aggregation": aggregation, **ONE}
    secure = SecureToy(tmp_path, **keys)
    plain = SecureToy(tmp_path, secure=False, **keys)
    states = [one_subspace(), one_subspace()]
    for _ in range(2):
        states = [secure.round(states[0]), plain.round(states[1])]
    for part, other in ((states[0].subspaces[0], states[1].subspaces[0]), (states[0].shared, states[1].shared)):
        assert all(torch.allclose(part[key], other[key], atol=2e-4) for key in part), rule
    assert states[0].rules.keys() == states[1].rules.keys()


def test_a_site_with_secure_sums_sends_no_plain_update_and_one_without_none_that_is_masked(tmp_path):
    secure = SecureToy(tmp_path, fcit_max_round_retries=0, **ONE)
    sums, secure.program.sums = secure.program.sums, None
    with pytest.raises(RoundFailed, match="This site sends masked updates alone"):
        secure.round(one_subspace())
    secure.program.sums = sums
    for app in secure.apps.values():
        app._sums = None
    with pytest.raises(RoundFailed, match="has no `fcit_secure_sum: true`"):
        secure.round(one_subspace())


@pytest.mark.parametrize(("key", "value"), [("fcit_max_update_norm", 16.0), ("fcit_max_client_samples", 128),
                                            ("fcit_secure_min_clients", 4)])  # fmt: skip
def test_other_bounds_at_the_server_are_said_by_every_site(key, value, tmp_path):
    secure = SecureToy(tmp_path, fcit_max_round_retries=0, **ONE)
    setattr(secure.program.args, key, value)
    with pytest.raises(RoundFailed, match=f"`{key}` is {value:g} at the server"):
        secure.round(one_subspace())


def test_an_update_over_the_norm_is_left_out_by_its_own_site(tmp_path):
    class Far(Counting):
        def train(self, config, subspace, shared, extras):
            found = super().train(config, subspace, shared, extras)
            return (
                found._replace(subspace={key: 1000 * x for key, x in found.subspace.items()}) if config.client == 3 else found
            )

    begin, secure = one_subspace(), SecureToy(tmp_path, local=Far(), **ONE)
    check_one(begin, secure.round(begin), [0, 1, 2, 4, 5, 6])
    (dropped,) = secure.heard.dropped
    assert dropped["client"] == 3 and "over 32 (`fcit_max_update_norm`)" in dropped["reason"]


def test_what_a_site_says_is_masked_or_no_update(tmp_path):
    """Of every reply that leaves a site: which records there are, and that masked numbers are as good as drawn."""
    said, secure = {}, SecureToy(tmp_path, local=Still(), **ONE)
    usual = secure.answer

    def answer(client, message):
        reply = usual(client, message)
        said.setdefault(message.metadata.message_type, []).append(reply.content)
        return reply

    secure.answer = answer
    secure.round(one_subspace())
    own = {"config", ENVELOPE}
    texts = own | {"secure-sums"}
    assert {kind: {frozenset(content) for content in contents} for kind, contents in said.items()} == {
        "query": {frozenset(own | {"metrics", "token"})},
        "train": {frozenset(own | {"metrics", "masked"})},
        **{kind: {frozenset(texts)} for kind in ("query.keys", "query.shares", "query.agree", "query.unmask")},
    }
    assert all(not content["metrics"] for content in said["train"])
    masked = np.concatenate([a.numpy() for content in said["train"] for a in content["masked"].values()]).view(np.uint8)
    counts = np.bincount(masked, minlength=256)
    spread = ((counts - len(masked) / 256) ** 2).sum() / (len(masked) / 256)
    assert spread < 400  # chi-square of 255: more than that in one of 10^8 runs


class Still(Counting):
    """Updates that are nothing, so that all that is told is mask."""

    def train(self, config, subspace, shared, extras):
        found = super().train(config, subspace, shared, extras)
        return found._replace(subspace=dict(subspace), shared=dict(shared))


def test_counts_that_are_masked_are_not_bounded(tmp_path):
    toy = SecureToy(tmp_path)
    assert toy.program.args.fcit_max_count_ratio == 10 and toy.program.weighing.count_ratio is None
    assert SecureToy(tmp_path, secure=False).program.weighing.count_ratio == 10
