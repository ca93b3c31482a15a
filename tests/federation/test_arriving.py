"""A reply counts once all of it has come: one whose SuperNode was killed while it sent it holds nothing up."""

import hashlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.appio_pb2 import PullAppMessagesResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, ObjectTree, PullObjectResponse
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.node_pb2 import Node
from flwr.proto.serverappio_pb2_grpc import ServerAppIoServicer, add_ServerAppIoServicer_to_server
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from wire import Sent, message_of

from fcit_plugin.deployment.addresses import free_ports
from fcit_plugin.federation.reply_limits import ReplyLimits
from fcit_plugin.federation.superlink import SuperLink, _beating


class Store:
    """What a SuperLink has of replies: their heads, delivered once, and those of their parts that have come."""

    def __init__(self):
        self.heads, self.parts, self.confirmed, self.fetched = [], {}, [], []

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
        self.fetched.append((request.object_id, len(content or b"")))
        return PullObjectResponse(object_found=True, object_available=content is not None, object_content=content or b"")

    def ConfirmMessageReceived(self, request):
        self.confirmed.append(request.message_object_id)


def link_to(store):
    link = SuperLink("127.0.0.1:1", "127.0.0.1:1", None)
    link._grid, link._replies = SimpleNamespace(node=Node(node_id=1), run=SimpleNamespace(run_id=1)), store
    return link


def asked(*names):
    return dict.fromkeys(names, ReplyLimits(numbers=10_000, heads=10_000, texts=1_000, parts=50))


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
    assert values(link.pull(asked("first", "second"))) == {"second": [0.0, 1.0]}
    assert values(link.pull(asked("first"))) == {}
    store.parts.update(late)
    assert values(link.pull(asked("first"))) == {"first": [0.0, 1.0, 2.0]}
    assert len(store.confirmed) == 2


def test_a_reply_that_never_comes_whole_is_forgotten_once_its_site_is_asked_again():
    store = Store()
    store.send("first", np.arange(3.0), kept_back=2)
    link = link_to(store)
    assert values(link.pull(asked("first"))) == {}
    store.send("again", np.arange(3.0))
    assert values(link.pull(asked("again"))) == {"again": [0.0, 1.0, 2.0]}
    assert link._arriving == {}


def test_one_reply_is_in_memory_at_a_time_and_nothing_of_one_whose_last_part_is_missing():
    store = Store()
    for name in ("first", "second"):
        store.send(name, np.full(3, len(name), np.float32))
    store.send("third", np.arange(50.0))
    *_, last = store.heads[-1][1].children  # a message's records are sent after the arrays in them
    late = {last.object_id: store.parts.pop(last.object_id)}
    link = link_to(store)
    arriving = link.pull(asked("first", "second", "third"))
    assert next(arriving).metadata.reply_to_message_id == "first"
    assert len(store.confirmed) == 1  # the second one is not fetched before the first one is done with
    assert [message.metadata.reply_to_message_id for message in arriving] == ["second"]
    assert sum(size for _, size in store.fetched[-2:]) < 300 < 50 * 8  # the message's own head alone
    store.fetched.clear()
    assert values(link.pull(asked("third"))) == {}
    assert store.fetched == [(last.object_id, 0)]  # what was missing is looked for first
    store.parts.update(late)
    assert values(link.pull(asked("third"))) == {"third": [*map(float, range(50))]}


def test_whom_a_reply_answers_is_the_superlinks_word():
    store = Store()
    store.send("first", np.arange(3.0))
    store.heads[0][0].metadata.reply_to_message_id = "second"  # what the SuperLink has taken it for
    assert values(link_to(store).pull(asked("second"))) == {"second": [0.0, 1.0, 2.0]}


class Servicer(ServerAppIoServicer):
    """A SuperLink's, with Flower's own store of what nodes have sent."""

    def __init__(self):
        self.store, self.roots = InMemoryObjectStore(), {}

    def put(self, request_id, parts, *trees):
        for tree in trees:
            self.store.preregister(1, tree)
        for name, content in parts.items():
            self.store.put(name, content)
        self.roots[request_id] = trees[-1].object_id

    def PullMessages(self, request, context):  # Flower's name
        (root,) = (self.roots.pop(name, None) for name in request.message_ids)
        if root is None:
            return PullAppMessagesResponse()
        head = ProtoMessage(metadata=ProtoMetadata(message_id=root))
        return PullAppMessagesResponse(messages_list=[head], message_object_trees=[self.store.get_object_tree(root)])

    def PullObject(self, request, context):
        content = self.store.get(request.object_id)
        return PullObjectResponse(object_found=content is not None, object_available=bool(content), object_content=content)

    def ConfirmMessageReceived(self, request, context):
        self.store.delete(request.message_object_id)
        return ConfirmMessageReceivedResponse()


def id_of(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


def sent(numbers):
    message = Sent.of(message_of(RecordDict({"arrays": ArrayRecord({"a": Array(numbers)})})))
    return message.parts, message.tree


def deep(first, last, leaf):
    """A tree whose every node has one child."""
    tree = ObjectTree(object_id=id_of(leaf))
    for number in range(first, last):
        tree = ObjectTree(object_id=id_of(number), children=[tree])
    return tree


def doubling(levels):
    """A tree of a few kilobytes whose every node has the one below it twice; Flower's store writes it out."""
    tree = ObjectTree(object_id=id_of(0))
    for number in range(1, levels):
        tree = ObjectTree(object_id=id_of(number), children=[tree, ObjectTree(object_id=tree.object_id)])
    return tree


MANY, NEVER = "has more than 50 parts", "cannot be had"
TREES = {
    "many parts": (MANY, {}, ObjectTree(object_id=id_of(0), children=[deep(0, 0, number) for number in range(1, 60)])),
    "as deep as its sender may nest it": (MANY, {}, deep(1, 99, 0)),
    "deeper than what holds it may be nested": (f"{NEVER} (INTERNAL", {}, deep(1, 60, 0), deep(60, 101, 59)),
    "small, and large where it is written out": (f"{NEVER} (RESOURCE_EXHAUSTED", {}, doubling(13)),
    "one huge part": (f"{NEVER} (RESOURCE_EXHAUSTED", *sent(np.random.default_rng(0).random(2**16))),
}


@pytest.mark.parametrize("name", TREES)
def test_one_reply_that_cannot_be_had_costs_no_other_one_and_the_run_goes_on(name, monkeypatch):
    monkeypatch.setattr("fcit_plugin.federation.superlink.LARGEST_PART", 2**18)
    servicer, port = Servicer(), free_ports(1)[0]
    said, *hostile = TREES[name]
    servicer.put("hostile", *hostile)
    servicer.put("honest", *sent(np.arange(3.0)))
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
    add_ServerAppIoServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    link = SuperLink("127.0.0.1:1", f"127.0.0.1:{port}", None)
    link._grid, link._replies = SimpleNamespace(node=Node(node_id=1), run=SimpleNamespace(run_id=1)), link._stub_of_replies()
    try:
        refused, whole = link.pull(asked("hostile", "honest"))
        assert [*link.pull(asked("hostile", "honest"))] == []
    finally:
        link._open.close()
        server.stop(None).wait()
    assert values([whole]) == {"honest": [0.0, 1.0, 2.0]}
    assert refused.metadata.reply_to_message_id == "hostile"
    assert refused.error.reason.startswith(f"what came in its name {said}")
    assert len(refused.error.reason) < 300
    assert link._grid is not None  # the run was not given up


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
