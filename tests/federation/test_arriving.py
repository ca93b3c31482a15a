"""A reply counts once all of it has come: one whose SuperNode was killed while it sent it holds nothing up."""

import itertools
import threading
from types import SimpleNamespace

import grpc
import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.appio_pb2 import PullAppMessagesResponse
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from fcit_plugin.federation.superlink import SuperLink, _beating


class Store:
    """What a SuperLink has of replies: their heads, delivered once, and those of their parts that have come."""

    def __init__(self):
        self.heads, self.parts, self.confirmed = [], {}, []

    def send(self, request_id, numbers, kept_back=0):
        request = Message(RecordDict(), dst_node_id=7, message_type="train")
        request.metadata.__dict__.update(_message_id=request_id, _run_id=1)
        reply = Message(RecordDict({"arrays": ArrayRecord({"a": Array(numbers)})}), reply_to=request)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
        self.heads.append((message_to_proto(remove_content_from_message(reply)), get_object_tree(reply)))
        late = sorted(objects)[:kept_back]
        self.parts.update({name: content for name, content in objects.items() if name not in late})
        return {name: objects[name] for name in late}

    def PullMessages(self, request):  # Flower's name
        asked = [head for head in self.heads if head[0].metadata.reply_to_message_id in request.message_ids]
        self.heads = [head for head in self.heads if head not in asked]
        return PullAppMessagesResponse(
            messages_list=[head for head, _ in asked], message_object_trees=[tree for _, tree in asked]
        )

    def PullObject(self, request):
        content = self.parts.get(request.object_id)
        return PullObjectResponse(object_found=True, object_available=content is not None, object_content=content or b"")

    def ConfirmMessageReceived(self, request):
        self.confirmed.append(request.message_object_id)


def link_to(store):
    link = SuperLink("127.0.0.1:1", "127.0.0.1:1", None)
    link._grid = SimpleNamespace(_stub=store, node=Node(node_id=1), run=SimpleNamespace(run_id=1))
    return link


def values(messages):
    return {
        message.metadata.reply_to_message_id: message.content.array_records["arrays"]["a"].numpy().tolist()
        for message in messages
    }


def test_a_reply_in_pieces_waits_for_its_last_one_and_holds_no_other_up():
    store = Store()
    late = store.send("first", np.arange(3.0), kept_back=1)
    store.send("second", np.arange(2.0))
    link = link_to(store)
    assert values(link.pull(["first", "second"])) == {"second": [0.0, 1.0]}
    assert values(link.pull(["first"])) == {}
    store.parts.update(late)
    assert values(link.pull(["first"])) == {"first": [0.0, 1.0, 2.0]}
    assert len(store.confirmed) == 2


def test_a_reply_that_never_comes_whole_is_forgotten_once_its_site_is_asked_again():
    store = Store()
    store.send("first", np.arange(3.0), kept_back=2)
    link = link_to(store)
    assert values(link.pull(["first"])) == {}
    store.send("again", np.arange(3.0))
    assert values(link.pull(["again"])) == {"again": [0.0, 1.0, 2.0]}
    assert link._arriving == {}


def test_one_reply_is_in_memory_at_a_time_and_nothing_of_one_whose_last_part_is_missing():
    store = Store()
    for name in ("first", "second"):
        store.send(name, np.full(3, len(name), np.float32))
    store.send("third", np.arange(50.0))
    *_, last = store.heads[-1][1].children  # a message's records are sent after the arrays in them
    late = {last.object_id: store.parts.pop(last.object_id)}
    link = link_to(store)
    arriving = link.pull(["first", "second", "third"])
    assert next(arriving).metadata.reply_to_message_id == "first"
    assert len(store.confirmed) == 1  # the second one is not fetched before the first one is done with
    assert [message.metadata.reply_to_message_id for message in arriving] == ["second"]
    assert sum(map(len, link._arriving["third"].contents.values())) < 200 < 50 * 8
    store.parts.update(late)
    assert values(link.pull(["third"])) == {"third": [*map(float, range(50))]}


def test_a_heartbeat_goes_on_whatever_the_other_side_says(monkeypatch):
    class Refused(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAUTHENTICATED

    heard = threading.Semaphore(0)

    class Stub:
        def SendTaskHeartbeat(self, request):  # Flower's name
            heard.release()
            raise Refused

    monkeypatch.setattr("flwr.supercore.heartbeat.exponential", lambda max_delay: itertools.repeat(0.01))
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    sender = _beating(Stub())
    assert all(heard.acquire(timeout=10) for _ in range(3))
    sender.stop()
    assert not raised
