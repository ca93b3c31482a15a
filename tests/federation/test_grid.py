"""The grid without servers: messages reach the right client and replies come back."""

import pytest
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fcit_plugin.federation.grid import InProcessGrid, identify_process


@pytest.fixture
def calls():
    return []


@pytest.fixture
def app(calls):
    identify_process()
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        calls.append((message.metadata.dst_node_id, context.node_id))
        if context.node_id == 13:
            raise ZeroDivisionError("client 13 is broken")
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


def test_a_clients_error_reaches_the_caller_with_its_cause(app):
    with pytest.raises(Exception) as caught:
        InProcessGrid(app, range(20)).send_and_receive(messages(1, 13))
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert any("client 13 is broken" in text for text in chain)


def test_create_message_addresses_a_client(app):
    message = InProcessGrid(app, range(3)).create_message(RecordDict(), MessageType.TRAIN, 2, "group")
    assert (message.metadata.dst_node_id, message.metadata.message_type) == (2, MessageType.TRAIN)


def test_identify_process_makes_this_process_flowers_server():
    identify_process()
    assert (
        Message(RecordDict(), dst_node_id=1, message_type=MessageType.TRAIN).metadata.src_node_id
        == TaskIdentity.node_id
    )
