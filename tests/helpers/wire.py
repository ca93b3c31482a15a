"""Messages as a SuperLink has them: the parts that Flower makes of them, and parts of a sender's own making."""

import hashlib
import json

from flwr.app import Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from fcit_plugin.federation.arriving import Arriving
from fcit_plugin.federation.reply_parts import Unusable


def message_of(content):
    """A reply with these records, of nobody's."""
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=7, message_type="train"))


class Sent:
    """A message in parts, by their ids."""

    def __init__(self):
        self.parts = {}

    @classmethod
    def of(cls, message):
        """As Flower sends it."""
        sent = cls()
        sent.parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        sent.root, sent.tree = message.object_id, get_object_tree(message)
        return sent

    def put(self, kind, children=(), body=b""):
        """A part with any head and body; its id."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        content = f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body
        self.root = hashlib.sha256(content).hexdigest()
        self.parts[self.root] = content
        return self.root

    def array(self, chunks, places, **said):
        """An array whose data are those of its chunks, in this order."""
        return self.put(
            "Array", chunks, {"dtype": "float32", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": places, **said}
        )

    def message(self, records, children=None):
        """The message of some records, by their names."""
        content = self.put("RecordDict", dict.fromkeys(records.values()) if children is None else children, records)
        head = Sent.of(message_of(RecordDict())).parts
        (body,) = (part.split(b"\0", 1)[1] for part in head.values() if part.startswith(b"Message"))
        self.put("Message", [content], body)
        self.tree = ObjectTree(object_id=self.root, children=[ObjectTree(object_id=name) for name in self.parts])
        return self

    @property
    def size(self):
        """Bytes of all its parts."""
        return sum(map(len, self.parts.values()))

    def arrives(self, limits, pull=None):
        """The message at its receiver; `pull` gives a part by its id."""
        return Arriving(self.root, self.tree, limits).message(pull or self.parts.__getitem__)


def over_the_wire(reply, limits, sent=None):
    """What a link gives of a reply: the same in parts, put together within its limits, or an error in its place.

    `sent`: What comes instead of it.
    """
    if reply.has_error():
        return reply
    try:
        return (sent or Sent.of(reply)).arrives(limits)
    except Unusable as error:
        return make_message(reply.metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, f"what came in its name {error}"))
