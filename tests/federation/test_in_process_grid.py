"""The grid without servers: messages reach the right client and replies come back."""

import pytest
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.in_process_grid import InProcessGrid


@pytest.fixture
def calls():
    return []


@pytest.fixture
def app(calls):
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        calls.append((message.metadata.dst_node_id, context.node_id))
        if context.node_id == 13:
            raise FcitError("client 13 is broken")
        return Message(RecordDict({"m": MetricRecord({"node": context.node_id})}), reply_to=message)

    return app


def messages(*nodes):
    return [Message(RecordDict(), dst_node_id=node, message_type=MessageType.TRAIN) for node in nodes]


def test_it_is_a_flower_grid_whose_nodes_are_the_clients(app):
    grid = InProcessGrid(app, range(3))
    assert isinstance(grid, Grid)
    assert list(grid.get_node_ids()) == [0, 1, 2]


def test_clients_run_in_the_order_of_the_messages_and_replies_name_their_sender(app, calls):
    replies = InProcessGrid(app, range(9)).send_and_receive(messages(5, 0, 7))
    assert calls == [(5, 5), (0, 0), (7, 7)]
    assert [reply.metadata.src_node_id for reply in replies] == [5, 0, 7]
    assert [reply.content["m"]["node"] for reply in replies] == [5, 0, 7]


def test_pushed_messages_are_pulled_once_each(app):
    grid = InProcessGrid(app, range(9))
    ids = list(grid.push_messages(messages(2, 2, 3)))
    assert len(set(ids)) == 3
    assert [r.metadata.src_node_id for r in grid.pull_messages(ids[1:])] == [2, 3]
    assert [r.metadata.src_node_id for r in grid.pull_messages(ids)] == [2]
    assert list(grid.pull_messages(ids)) == []


def test_on_reply_hears_of_each_request_with_its_reply(app):
    heard = []
    grid = InProcessGrid(app, range(9), on_reply=lambda request, reply: heard.append((request, reply)))
    sent = messages(4, 6)
    replies = list(grid.send_and_receive(sent))
    assert [pair[0] for pair in heard] == sent
    assert [pair[1] for pair in heard] == replies


def test_a_client_that_raises_is_answered_for_and_the_others_go_on(app, calls):
    replies = InProcessGrid(app, range(20)).send_and_receive(messages(1, 13, 5))
    assert [node for node, _ in calls] == [1, 13, 5]
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert [reply.metadata.src_node_id for reply in replies] == [1, 13, 5]
    assert replies[1].error.reason == "client 13 is broken"
    assert replies[1].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION


def test_the_traceback_of_a_client_goes_to_the_debug_log(app, caplog):
    with caplog.at_level("DEBUG", logger="fcit_plugin.federation.in_process_grid"):
        InProcessGrid(app, range(20)).send_and_receive(messages(13))
    assert "client 13 is broken" in caplog.text and "Traceback" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_no_clients_failure(error):
    def stops(message, context):
        raise error

    with pytest.raises(error):
        InProcessGrid(stops, range(3)).send_and_receive(messages(0))


@pytest.mark.parametrize(("answer", "said"), [({}, "dict"), ("done", "str"), (3.5, "float")])
def test_an_answer_that_is_no_message_is_a_failure(answer, said):
    (reply,) = InProcessGrid(lambda message, context: answer, range(3)).send_and_receive(messages(2))
    assert reply.error.reason == f"it answered with a {said}, which is not a message"


def test_a_client_that_says_nothing_has_no_reply(app):
    grid = InProcessGrid(lambda m, c: None if c.node_id == 2 else app(m, c), range(9))
    assert [reply.metadata.src_node_id for reply in grid.send_and_receive(messages(1, 2, 3))] == [1, 3]
    ids = list(grid.push_messages(messages(1, 2, 3)))
    assert len(ids) == 3
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids)] == [1, 3]


def test_an_answer_after_the_deadline_is_a_failure(app):
    durations = iter([0.0, 9.0, 100.0, 110.0, 200.0, 211.0])
    grid = InProcessGrid(app, range(9), timeout=10, clock=lambda: next(durations))
    replies = grid.send_and_receive(messages(1, 2, 3))
    assert [reply.has_error() for reply in replies] == [False, False, True]
    assert replies[2].error.reason == "it took longer than 10 s (`fcit_client_timeout`)"


def test_a_failure_in_another_process_is_this_ones_too(app):
    elsewhere = iter([None, "it failed on rank 1", None])
    grid = InProcessGrid(app, range(20), agree=lambda own: own or next(elsewhere))
    replies = grid.send_and_receive(messages(1, 2, 3, 13))
    assert [reply.error.reason if reply.has_error() else None for reply in replies] == [
        None,
        "it failed on rank 1",
        None,
        "client 13 is broken",
    ]


def test_create_message_addresses_a_client(app):
    message = InProcessGrid(app, range(3)).create_message(RecordDict(), MessageType.TRAIN, 2, "group")
    assert (message.metadata.dst_node_id, message.metadata.message_type) == (2, MessageType.TRAIN)
