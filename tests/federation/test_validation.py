"""What passes: honest replies in every form that they take, and bounds at their edges."""

import math

import numpy as np
import pytest
from flwr.app import Array, Message, MessageType, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from toy import BLANK, PROJECTOR, noise

from fcit_plugin.federation.messages import ARRAYS, CONFIG, SHARED, ClientConfig, to_record, token_reply, update_reply
from fcit_plugin.federation.reply_parts import MAX_REASON, one_line
from fcit_plugin.federation.token_checks import MAX_COUNT, Bounds
from fcit_plugin.federation.validation import judge_tokens, judge_updates
from fcit_plugin.knowledge.identity_tokens import ClientToken

CLIENTS = (2, 5, 9)


def token(client, count=7, examples=8, scale=1.0):
    return ClientToken(client, scale * np.arange(1, 5, dtype=np.float32), count, examples)


def requests(kind, shared=True):
    made = {}
    for client in CLIENTS:
        content = RecordDict({CONFIG: ClientConfig("run", 1, 2, client, 0).to_record()})
        if kind == MessageType.TRAIN:
            content[ARRAYS] = to_record(noise(0, BLANK))
            if shared:
                content[SHARED] = to_record(noise(1, PROJECTOR))
        made[client] = Message(content, dst_node_id=client, message_type=kind)
    return made


def updates(sent, moved=1.0, shared=True):
    """Replies whose every tensor moved by the number in ``moved``, one for all or one for each client."""
    moved = moved if isinstance(moved, dict) else dict.fromkeys(CLIENTS, moved)
    return [
        update_reply(
            sent[client],
            {key: value + moved[client] for key, value in noise(0, BLANK).items()},
            {key: value + moved[client] for key, value in noise(1, PROJECTOR).items()} if shared else {},
            token(client),
            0.5,
        )
        for client in CLIENTS
    ]


#: Numbers in all tensors together.
SIZE = sum(value.numel() for value in (BLANK | PROJECTOR).values())
TOKENS = {client: token(client) for client in CLIENTS}


def test_honest_answers_pass_in_any_order_and_come_by_client():
    sent = requests(MessageType.QUERY)
    good, dropped = judge_tokens(sent, [token_reply(sent[c], token(c)) for c in reversed(CLIENTS)], Bounds(4))
    assert (tuple(good), dropped) == (CLIENTS, {})
    assert all(good[c].mean.tobytes() == token(c).mean.tobytes() for c in CLIENTS)
    assert all((good[c].count, good[c].num_examples) == (7, 8) for c in CLIENTS)


@pytest.mark.parametrize("shared", [True, False])
def test_honest_updates_pass_in_any_order_and_come_by_client(shared):
    sent = requests(MessageType.TRAIN, shared)
    replies = updates(sent, shared=shared)
    good, dropped = judge_updates(sent, reversed(replies), TOKENS, Bounds(4))
    assert (list(good.values()), dropped) == (replies, {})


def test_a_client_that_did_not_learn_anything_is_honest():
    sent = requests(MessageType.TRAIN)
    assert judge_updates(sent, updates(sent, moved=0.0), TOKENS, Bounds(4, max_norm_ratio=2))[1] == {}
    moved = dict(zip(CLIENTS, (0.0, 0.0, 5.0), strict=True))
    assert judge_updates(sent, updates(sent, moved), TOKENS, Bounds(4, max_norm_ratio=2))[1] == {}, "a median of 0 says nothing"


def test_tensors_in_fortran_order_pass_and_keep_their_numbers():
    sent = requests(MessageType.TRAIN)
    replies = updates(sent)
    array = replies[0].content[ARRAYS]["l.lora_A.weight"].numpy()
    replies[0].content[ARRAYS]["l.lora_A.weight"] = Array(np.asfortranarray(array))
    assert b"'fortran_order': True" in replies[0].content[ARRAYS]["l.lora_A.weight"].data
    good, dropped = judge_updates(sent, replies, TOKENS, Bounds(4))
    assert dropped == {}
    assert np.array_equal(good[2].content[ARRAYS]["l.lora_A.weight"].numpy(), array)


def test_the_norm_of_an_update_is_that_of_all_its_numbers_minus_those_sent():
    sent = requests(MessageType.TRAIN)
    norm = 3 * math.sqrt(SIZE)
    assert judge_updates(sent, updates(sent, 3.0), TOKENS, Bounds(4, max_norm=norm * 1.00001))[1] == {}
    _, dropped = judge_updates(sent, updates(sent, 3.0), TOKENS, Bounds(4, max_norm=norm * 0.99999))
    assert set(dropped) == set(CLIENTS)
    assert dropped[2].startswith(f"its update has norm {norm:.4g}, over ")


@pytest.mark.parametrize(("ratio", "left_out"), [(3.99, {9}), (4.01, set())])
def test_the_ratio_is_to_the_median_of_the_round(ratio, left_out):
    sent = requests(MessageType.TRAIN)
    moved = dict(zip(CLIENTS, (1.0, 2.0, 8.0), strict=True))
    good, dropped = judge_updates(sent, updates(sent, moved), TOKENS, Bounds(4, max_norm_ratio=ratio))
    assert set(dropped) == left_out
    assert set(good) == set(CLIENTS) - left_out


@pytest.mark.parametrize(("bound", "count", "is_good"), [(8, 8, True), (7, 8, False), (MAX_COUNT, MAX_COUNT, True)])
def test_counts_may_reach_their_bound(bound, count, is_good):
    sent = requests(MessageType.QUERY)
    replies = [token_reply(sent[c], token(c, count, count)) for c in CLIENTS]
    good, _ = judge_tokens(sent, replies, Bounds(4, max_samples=bound))
    assert bool(good) == is_good


def test_an_update_without_a_query_before_it_is_judged_by_its_token_too():
    sent = requests(MessageType.TRAIN)
    replies = updates(sent)
    good, dropped = judge_tokens(sent, replies, Bounds(4))
    assert (tuple(good), dropped) == (CLIENTS, {})
    good, dropped = judge_tokens(sent, replies, Bounds(5))
    assert set(dropped) == set(CLIENTS)
    assert dropped[2] == "its identity token is of shape (4,), not (5,)"


@given(st.text(max_size=2000))
def test_a_reason_is_one_printable_line_of_bounded_length(text):
    line = one_line(text)
    assert len(line) <= MAX_REASON
    assert line.isprintable()
    assert one_line(line) == line
