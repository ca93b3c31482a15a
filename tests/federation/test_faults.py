"""Failing and hostile clients: a round goes on as if they had not been there, bit for bit, and says why."""

import contextlib
import copy
from pathlib import Path

import pytest
from faults import STRANGER, TABLE, fails, markdown
from flwr.app import Message
from toy import TOKENS, Toy, bits, start

from fcit_plugin import plugins
from fcit_plugin.federation.server import RoundFailed
from fcit_plugin.hookspecs import hookimpl

pytestmark = pytest.mark.thorough

#: Keys that some faults need; honest clients of the toy are far within them.
KEYS = {"fcit_max_client_samples": 100, "fcit_max_update_norm": 1e4}
#: One that shares a subspace, one alone in a known one, one that opens a new one, one between two other new ones.
PLACES = {"shares": 0, "alone": 2, "opens": 3, "joins two": 6}


class Intercept:
    """Plays with the replies of some clients in one phase."""

    def __init__(self, clients, phase, apply):
        self.clients, self.phase, self.apply = clients, phase, apply

    @hookimpl
    def fcit_intercept_reply(self, request, reply):
        if request.metadata.dst_node_id not in self.clients or request.metadata.message_type != self.phase:
            return None
        return self.apply(request, Message(copy.deepcopy(reply.content), reply_to=request))


@contextlib.contextmanager
def intercepting(clients, phase, apply):
    """An interceptor within a block."""
    name = plugins.manager().register(Intercept(clients, phase, apply))
    try:
        yield
    finally:
        plugins.manager().unregister(name=name)


@pytest.fixture
def intercept():
    """Adds interceptors for the length of a test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args: stack.enter_context(intercepting(*args))


@pytest.fixture(scope="module")
def honest():
    """The state after a round without some clients, and its observer."""
    known = {}

    def after(without):
        if without not in known:
            toy = Toy(without, **KEYS)
            known[without] = bits(toy.round()), toy.heard
            assert toy.heard.dropped == []
        return known[without]

    return after


def test_the_toys_clients_are_of_the_kinds_that_the_places_say(honest):
    subspace = {row["client"]: row["subspace"] for row in honest(frozenset())[1].rows}
    assert subspace == {0: 0, 1: 0, 2: 1, 3: 2, 4: 3, 5: 3, 6: 3}
    without = {row["client"]: row["subspace"] for row in honest(frozenset({6}))[1].rows}
    assert (without[4], without[5]) == (3, 4), "without client 6 nothing joins 4 and 5"
    assert {row["client"]: row["subspace"] for row in honest(frozenset({3}))[1].rows}[4] == 2, "numbers stay dense"


@pytest.mark.parametrize(
    ("fault", "phase"),
    [pytest.param(fault, phase, id=f"{fault.name}-{phase}") for fault in TABLE for phase in fault.phases],
)
def test_a_round_with_a_bad_reply_is_the_round_without_that_client(fault, phase, honest):
    for client in PLACES.values():
        left_out = fault.left_out(client)
        expected, heard = honest(frozenset(left_out - {STRANGER}))
        with intercepting({client}, phase, fault.apply):
            toy = Toy(**KEYS)
            after = toy.round()
        assert {entry["client"] for entry in toy.heard.dropped} == left_out
        for entry in toy.heard.dropped:
            assert (entry["stage"], entry["round"]) == (0, 0)
            assert fault.says in entry["reason"]
            assert "\n" not in entry["reason"] and "\x1b" not in entry["reason"] and len(entry["reason"]) <= 300
        assert bits(after) == expected
        assert toy.heard.rows == heard.rows
        assert toy.heard.loss == heard.loss


def test_there_are_many_kinds_of_faults_and_the_documents_list_them_all():
    assert len({fault.name for fault in TABLE}) == len(TABLE) >= 40
    document = Path(__file__).parents[2] / "docs" / "guide" / "reliability.md"
    assert markdown() in document.read_text(encoding="utf-8")


def test_several_bad_clients_in_both_phases_leave_the_round_of_the_good_ones(honest, intercept):
    by_name = {fault.name: fault.apply for fault in TABLE}
    intercept({3}, "query", by_name["has NaN in its token"])
    intercept({0}, "train", by_name["sends a pickle"])
    intercept({6}, "train", by_name["moves a thousand times as far as the others"])
    toy = Toy(**KEYS)
    assert bits(toy.round()) == honest(frozenset({0, 3, 6}))[0]
    assert [entry["client"] for entry in toy.heard.dropped] == [3, 0, 6]


nobody_replies = fails("CUDA out of memory")


@pytest.mark.parametrize("phase", ["query", "train"])
def test_what_all_clients_fail_with_stands_in_the_sentence_that_ends_the_run(phase, intercept):
    intercept(set(TOKENS), phase, nobody_replies)
    toy, state = Toy(), start()
    before = bits(state)
    with pytest.raises(RoundFailed) as caught:
        toy.round(state)
    assert str(caught.value) == (
        "Stage 0, round 0 failed in 3 attempts: fewer than 1 (`fcit_min_replies`) of the clients gave a reply that can "
        "be used. All that failed did so alike: CUDA out of memory. The state before the round is untouched."
    )
    assert bits(state) == before
    assert toy.heard.ended == 0
    assert len(toy.heard.dropped) == 3 * len(TOKENS)


def test_different_reasons_are_named(intercept):
    intercept({0, 1, 2}, "query", lambda request, reply: [])
    intercept({3, 4, 5, 6}, "train", nobody_replies)
    with pytest.raises(RoundFailed, match=r"Among the reasons: it gave no reply; CUDA out of memory\. The"):
        Toy(fcit_max_round_retries=0).round()


@pytest.mark.parametrize(("least", "goes_on"), [(5, True), (6, False)])
def test_a_round_goes_on_with_as_many_good_replies_as_the_recipe_asks_for(least, goes_on, intercept):
    intercept({0}, "query", lambda request, reply: [])
    intercept({4}, "train", nobody_replies)
    toy = Toy(fcit_min_replies=least, fcit_max_round_retries=1)
    if goes_on:
        toy.round()
        assert {row["client"] for row in toy.heard.rows} == set(TOKENS) - {0, 4}
    else:
        with pytest.raises(RoundFailed, match=r"failed in 2 attempts: fewer than 6 \(`fcit_min_replies`\)"):
            toy.round()


def asked(toy, attempt):
    return set(toy.program.work(0, 0, attempt))


def test_a_round_is_tried_again_with_other_clients_and_leaves_no_trace_of_the_first_try(intercept):
    toy = Toy(fcit_clients_per_round=3)
    first, second = asked(toy, 0), asked(toy, 1)
    assert not first & second
    intercept(first, "train", nobody_replies)
    after = toy.round()
    assert {row["client"] for row in toy.heard.rows} == second
    assert {entry["client"] for entry in toy.heard.dropped} == first
    assert [row["client"] for row in toy.heard.asked] == [*toy.program.work(0, 0, 0), *toy.program.work(0, 0, 1)]
    intercept(first, "query", lambda request, reply: [])
    again = Toy(fcit_clients_per_round=3)
    assert bits(again.round()) == bits(after)
    work = toy.program.work
    toy.program.work = lambda stage, round, attempt=0: work(stage, round, 1)
    toy.grid, toy.heard = Toy().grid, Toy().heard
    alone = toy.round()
    assert bits(alone) == bits(after)
    assert toy.heard.dropped == []


def test_bytes_of_every_attempt_are_counted(intercept):
    plain = Toy(fcit_clients_per_round=3)
    plain.round()
    toy = Toy(fcit_clients_per_round=3)
    intercept(asked(toy, 0), "train", nobody_replies)
    toy.round()
    assert toy.traffic.down == 2 * plain.traffic.down
    assert plain.traffic.up < toy.traffic.up < 2 * plain.traffic.up


def test_a_norm_that_only_few_replies_could_judge_is_let_through(intercept):
    far = next(fault.apply for fault in TABLE if fault.name == "moves a thousand times as far as the others")
    for clients, dropped in ((2, []), (3, [True])):
        toy = Toy(fcit_clients_per_round=clients)
        intercept({min(asked(toy, 0))}, "train", far)
        toy.round()
        assert bool(toy.heard.dropped) == bool(dropped), clients


def test_no_ratio_is_asked_for_where_the_recipe_says_so(intercept):
    far = next(fault.apply for fault in TABLE if fault.name == "moves a thousand times as far as the others")
    intercept({0}, "train", far)
    toy = Toy(fcit_max_norm_ratio=None)
    toy.round()
    assert toy.heard.dropped == []


def test_a_client_that_is_late_counts_as_failed(honest):
    """The second answer of client 4, its update, takes 61 seconds by the grid's clock."""
    now, calls = [0.0], {}

    def slow(app):
        def call(message, context):
            calls[context.node_id] = calls.get(context.node_id, 0) + 1
            now[0] += 61 if (context.node_id, calls[context.node_id]) == (4, 2) else 1
            return app(message, context)

        return call

    toy = Toy(wrap=slow, grid={"timeout": 60, "clock": lambda: now[0]}, **KEYS)
    assert bits(toy.round()) == honest(frozenset({4}))[0]
    assert [(e["client"], e["reason"]) for e in toy.heard.dropped] == [(4, "it took longer than 60 s (`fcit_client_timeout`)")]
