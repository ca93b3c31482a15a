"""Kinds of instructions on their way: in replies, in what is refused of them, in a state's folder and in two states joined."""

import math
import re

import numpy as np
import pytest
from flwr.app import Array, Message, MessageType, RecordDict
from toy import BLANK, PROJECTOR, noise

from fcit_plugin.federation.messages import (
    ARRAYS,
    CONFIG,
    KIND_COUNTS,
    KIND_MEANS,
    TOKEN,
    ClientConfig,
    client_token,
    num_bytes,
    to_record,
    token_reply,
    update_reply,
)
from fcit_plugin.federation.token_checks import Bounds
from fcit_plugin.federation.validation import judge_tokens, judge_updates
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.organizer import Organizer
from fcit_plugin.knowledge.prototypes import MAX_KINDS, Prototypes
from fcit_plugin.serving.join import join
from fcit_plugin.state.folder import StateFolder
from fcit_plugin.state.server_state import ServerState, save_state

D = 4
BOUNDS = Bounds(D, kinds=True)
MEAN = np.arange(1, D + 1, dtype=np.float32)
KINDS = Prototypes(np.eye(D, dtype=np.float32)[:3], np.array([5, 2, 1]))


def token(kinds=KINDS, count=9):
    return ClientToken(4, MEAN, count, 8, kinds)


def request(kind=MessageType.QUERY):
    content = RecordDict({CONFIG: ClientConfig("run", 1, 2, 4, 0).to_record()})
    if kind == MessageType.TRAIN:
        content[ARRAYS] = to_record(noise(0, BLANK))
    return Message(content, dst_node_id=4, message_type=kind)


def judged(reply_token, bounds=BOUNDS, change=lambda record: None):
    sent = request()
    reply = token_reply(sent, reply_token)
    change(reply.content[TOKEN])
    good, dropped = judge_tokens({4: sent}, [reply], bounds)
    return good.get(4), dropped.get(4)


def test_they_arrive_as_they_were_sent_and_are_counted_as_bytes():
    reply, without = token_reply(request(), token()), token_reply(request(), token(None))
    found = client_token(reply)
    assert found.kinds.means.tobytes() == KINDS.means.tobytes() and found.kinds.counts.tolist() == [5, 2, 1]
    assert client_token(without).kinds is None
    assert num_bytes(reply) > num_bytes(without) + 3 * (4 * D + 8)
    assert judged(token())[0].kinds.counts.tolist() == [5, 2, 1]


def set_array(name, array):
    return lambda record: record.__setitem__(name, Array(np.ascontiguousarray(array)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.pop(KIND_MEANS), "token record holds kind-counts, mean, not"),
        (set_array(KIND_COUNTS, np.zeros((0,), np.int64)), r"tells \(0,\) kinds of instructions, not 1 to 64"),
        (set_array(KIND_COUNTS, np.ones((MAX_KINDS + 1,), np.int64)), r"tells \(65,\) kinds"),
        (set_array(KIND_COUNTS, np.ones((3, 1), np.int64)), r"tells \(3, 1\) kinds"),
        (set_array(KIND_COUNTS, np.ones(3, np.float32)), "of dtype .*float32.*, not int64"),
        (set_array(KIND_COUNTS, np.array([5, 2, 3])), "of its 9 instructions"),
        (set_array(KIND_COUNTS, np.array([5, 2, 0])), "of its 9 instructions"),
        (set_array(KIND_COUNTS, np.array([2**62, 2**62, 2**62])), "of its 9 instructions"),
        (set_array(KIND_MEANS, np.eye(D, dtype=np.float32)[:2]), r"of shape \(2, 4\), not \(3, 4\)"),
        (set_array(KIND_MEANS, np.full((3, D), math.nan, np.float32)), "is not finite"),
        (set_array(KIND_MEANS, np.zeros((3, D), np.float32)), "has a norm not over 0"),
    ],
)
def test_unsound_ones_are_refused_by_a_reason(change, reason):
    good, dropped = judged(token(), change=change)
    assert good is None
    assert re.search(reason, dropped), dropped


def test_they_are_refused_where_nobody_asked_and_missed_where_somebody_did():
    assert "holds kind-counts, kind-means, mean, not mean" in judged(token(), bounds=Bounds(D))[1]
    assert "holds mean, not kind-counts, kind-means, mean" in judged(token(None))[1]


def test_an_update_must_name_those_that_the_client_was_assigned_by():
    sent = request(MessageType.TRAIN)
    other = Prototypes(KINDS.means[::-1].copy(), KINDS.counts)
    for kinds, is_good in ((KINDS, True), (other, False)):
        reply = update_reply(sent, noise(1, BLANK), {}, token(kinds), 0.5)
        good, dropped = judge_updates({4: sent}, [reply], {4: token()}, BOUNDS)
        assert bool(good) == is_good
        assert is_good or "kinds of instructions" in dropped[4]


def state_of(kinds):
    tokens = SubspaceTokens(np.eye(D, dtype=np.float32)[:2] * 8, np.array([8, 8]), kinds)
    return ServerState(tokens, noise(9, PROJECTOR), [noise(k, BLANK) for k in range(2)], tasks=[{"a": 1}, {"b": 1}])


def test_a_folder_keeps_them(tmp_path):
    kinds = (KINDS, Prototypes(np.eye(D, dtype=np.float32)[3:], np.array([8])))
    for name, state in (("with", state_of(kinds)), ("without", state_of(None))):
        save_state(state, tmp_path / name, {"r": 2}, {})
    back = StateFolder(tmp_path / "with").load().tokens
    assert [part.counts.tolist() for part in back.kinds] == [[5, 2, 1], [8]]
    assert back.kinds[0].means.tobytes() == KINDS.means.tobytes()
    assert StateFolder(tmp_path / "without").load().tokens.kinds is None


def test_joined_states_have_the_kinds_of_both():
    axes = np.eye(D, dtype=np.float32)
    first = state_of((Prototypes(axes[:1], np.array([8])), Prototypes(axes[1:2], np.array([8]))))
    second = state_of((Prototypes(axes[[0, 2]], np.array([6, 2])), Prototypes(axes[3:], np.array([8]))))
    joined = join(first, second, Organizer(0.9, None)).state.tokens
    assert [part.counts.tolist() for part in joined.kinds] == [[14, 2], [8, 8]]
