"""One round as pure steps: closed forms, untouched subspaces, and replies in any order."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.continual.methods import make_method
from fcit_plugin.federation.messages import ARRAYS, SHARED, config_of, to_state, update_reply
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.round import Round
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer, SingleSubspace
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.server_state import ServerState

SHAPES = {"l.lora_A.weight": (2, 3), "l.lora_B.weight": (4, 2)}
TASKS = ["red", "green", "blue"]


def weights(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def state_of(num_subspaces, with_shared=True):
    tokens = SubspaceTokens.empty(3)
    if num_subspaces:
        directions = 10 * np.eye(3, dtype=np.float32)[:num_subspaces]
        tokens = SubspaceTokens(directions, np.full(num_subspaces, 10, np.int64))
    shared = weights(50, {"projector.weight": (2, 2)}) if with_shared else {}
    return ServerState(
        tokens,
        shared,
        [weights(60 + k) for k in range(num_subspaces)],
        tasks=[{"old": 1} for _ in range(num_subspaces)],
    )


def token(client, kind, examples):
    mean = np.eye(3, dtype=np.float32)[kind] + 0.01 * client
    return ClientToken(client=client, mean=mean, count=examples, num_examples=examples)


class Answered:
    """A round whose clients answer with random weights; ``kinds`` is client -> (direction, examples)."""

    def __init__(self, state, kinds, method="disco"):
        args = FcitArguments(fcit_setting="custom", fcit_stages=[[name] for name in TASKS], fcit_method=method)
        program = Program(args, get_scenario("custom", args.fcit_stages), 0, weights(99))
        self.state, self.kinds, self.fresh = state, kinds, program.fresh(0)
        self.organizer = program.method.organizer(0)
        self.tokens = {c: token(c, kind, n) for c, (kind, n) in kinds.items()}
        self.assignment = self.organizer.assign(list(self.tokens.values()), state.tokens)
        self.round = Round(program, state, self.assignment, {c: program.work_of(0, 0, c, kinds[c][0]) for c in kinds})
        self.requests = self.round.requests
        self.answers = {c: weights(c) for c in kinds}
        self.shared = {c: weights(c + 30, {"projector.weight": (2, 2)}) for c in kinds if state.shared}
        self.replies = [
            update_reply(self.requests[c], self.answers[c], self.shared.get(c, {}), self.tokens[c], 0.5) for c in kinds
        ]

    def fold(self, replies=None):
        return self.round.fold(self.replies if replies is None else replies).state

    def mean(self, states, clients, key):
        total = sum(self.kinds[c][1] for c in clients)
        return sum(self.kinds[c][1] * states[c][key].double() for c in clients) / total


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def same_state(one, other):
    return (
        len(one.subspaces) == len(other.subspaces)
        and all(map(same_bits, one.subspaces, other.subspaces))
        and same_bits(one.shared, other.shared)
        and one.tokens.sums.tobytes() == other.tokens.sums.tobytes()
        and one.tokens.counts.tobytes() == other.tokens.counts.tobytes()
        and one.tasks == other.tasks
    )


MIXED = {4: (0, 7), 1: (1, 3), 7: (0, 100), 2: (2, 5), 9: (2, 11)}


def test_replies_in_any_order_give_the_same_bits():
    one = Answered(state_of(2), MIXED)
    expected = one.fold()
    for order in itertools.permutations(one.replies):
        assert same_state(one.fold(order), expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_rounds_are_weighted_averages_whatever_the_order(data):
    clients = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True))
    kinds = {c: (data.draw(st.integers(0, 2)), data.draw(st.integers(1, 1000))) for c in clients}
    one = Answered(state_of(data.draw(st.integers(0, 3))), kinds)
    after = one.fold(data.draw(st.permutations(one.replies)))
    assert same_state(after, one.fold())
    for k in set(one.assignment.subspace.values()):
        members = [c for c in clients if one.assignment.subspace[c] == k]
        for key in SHAPES:
            expected = one.mean(one.answers, members, key)
            torch.testing.assert_close(after.subspaces[k][key].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("missing", [[], [7], [4, 7], [2, 9], [1]])
def test_each_subspace_and_the_projector_are_the_weighted_average_of_who_replied(missing):
    one = Answered(state_of(2), MIXED)
    present = [c for c in MIXED if c not in missing]
    after = one.fold([r for r in one.replies if r.metadata.src_node_id in present])
    for k, members in {0: [4, 7], 1: [1], 2: [2, 9]}.items():
        members = [c for c in members if c in present]
        if members:
            for key in SHAPES:
                expected = one.mean(one.answers, members, key)
                torch.testing.assert_close(after.subspaces[k][key].double(), expected, rtol=1e-5, atol=1e-6)
        else:
            before = one.state.subspaces[k] if k < 2 else one.fresh
            assert same_bits(after.subspaces[k], before)
    expected = one.mean(one.shared, present, "projector.weight")
    torch.testing.assert_close(after.shared["projector.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_subspace_without_clients_stays_bit_identical_with_its_token():
    one = Answered(state_of(3), {3: (1, 8)})
    after = one.fold()
    for k in (0, 2):
        assert same_bits(after.subspaces[k], one.state.subspaces[k])
        assert after.tokens.sums[k].tobytes() == one.state.tokens.sums[k].tobytes()
    assert not same_bits(after.subspaces[1], one.state.subspaces[1])
    assert after.tokens.counts.tolist() == [10, 18, 10]


def test_nothing_changes_without_any_reply():
    one = Answered(state_of(3), {3: (1, 8)})
    assert same_state(one.fold([]), one.state)


def test_folding_leaves_the_state_before_the_round_alone():
    one = Answered(state_of(2), MIXED)
    one.fold()
    assert same_state(one.state, state_of(2))


def test_one_reply_alone_is_taken_over_up_to_rounding():
    one = Answered(state_of(0), {5: (0, 17)})
    torch.testing.assert_close(one.fold().subspaces[0], one.answers[5], rtol=1e-6, atol=1e-7)


def test_clients_of_an_opened_subspace_start_fresh_and_others_from_their_subspace():
    one = Answered(state_of(2), MIXED)
    assert one.assignment.subspace == {1: 1, 2: 2, 4: 0, 7: 0, 9: 2}
    for client, k in one.assignment.subspace.items():
        start = one.fresh if k == 2 else one.state.subspaces[k]
        request = one.requests[client]
        assert same_bits(to_state(request.content[ARRAYS]), start)
        assert same_bits(to_state(request.content[SHARED]), one.state.shared)
        assert config_of(request).subspace == k
        assert config_of(request).client == client
        assert request.metadata.dst_node_id == client


def test_without_shared_trainables_none_travel_and_none_are_kept():
    one = Answered(state_of(1, with_shared=False), MIXED)
    assert all(SHARED not in request.content for request in one.requests.values())
    assert one.fold().shared == {}


def test_tasks_of_a_subspace_are_counted():
    assert Answered(state_of(2), MIXED).fold().tasks == [{"old": 1, "red": 2}, {"old": 1, "green": 1}, {"blue": 2}]


@pytest.mark.parametrize("num_subspaces", [0, 1])
def test_fedavg_keeps_one_subspace_that_is_the_average_of_all(num_subspaces):
    one = Answered(state_of(num_subspaces), MIXED, method="fedavg")
    assert isinstance(one.organizer, SingleSubspace)
    assert set(one.assignment.subspace.values()) == {0}
    assert one.assignment.opened == ((0,) if num_subspaces == 0 else ())
    after = one.fold()
    assert len(after.subspaces) == 1
    for key in SHAPES:
        expected = one.mean(one.answers, list(MIXED), key)
        torch.testing.assert_close(after.subspaces[0][key].double(), expected, rtol=1e-5, atol=1e-6)


def test_disco_is_the_organizer_itself_and_each_owner_has_its_own_rule():
    assert type(make_method(FcitArguments()).organizer(0)) is Organizer
    rules = RuleSet(FcitArguments())
    assert rules[0] is rules[0]
    assert len({id(rules[owner]) for owner in (0, 1, RuleSet.SHARED)}) == 3
