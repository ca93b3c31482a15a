"""A reply on its way: fetched, weighed by its heads and put together, before anybody knows who has sent it.

Any node of a SuperLink can send anything in place of a reply. None of it costs more than the reply's limits
(:mod:`.reply_limits`): parts are counted before they are fetched, their bytes while they are, and what they come to before they
are put together. That is another number: equal parts of a message travel once and are named again and again, as the pieces of
an array of zeros or two arrays that are alike. So a part counts as often as it is named.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.inflatable.inflatable_object import get_object_head_values_from_object_content, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectIdNotPreregisteredError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)

from ..files import parse_json
from .reply_limits import ReplyLimits
from .reply_parts import Unusable

#: Bytes of a part at most: three times the longest text, six times the pieces of an array.
LARGEST_PART = 2**25
#: What a part of each kind is made of, by Flower's names.
_MADE_OF = {
    "Message": ("RecordDict",),
    "RecordDict": ("ArrayRecord", "ConfigRecord", "MetricRecord"),
    "ArrayRecord": ("Array",),
    "Array": ("ArrayChunk",),
}
#: Values in the records that have no arrays at most: a reply has some 60.
_MOST_VALUES = 2**15
_REMEDY = "; if the site has sent it, give it the server's recipe and its version of fcit-plugin"


class Arriving:
    """A reply whose parts are on their way.

    Attributes:
        message_id: Its id.

    Args:
        message_id: Its id.
        tree: The ids of its parts, each before what it is a part of.
        limits: What it may have at most.
    """

    def __init__(self, message_id: str, tree: ObjectTree, limits: ReplyLimits) -> None:
        self.message_id, self._limits = message_id, limits
        self._parts = [part.object_id for part in itertools.islice(iterate_object_tree(tree), limits.parts + 1)]
        self._missing: list[str] = []

    def message(self, pull: Callable[[str], bytes]) -> Message | None:
        """The reply, None as long as a part is missing.

        Args:
            pull: Gives a part by its id; raises one of Flower's two errors where that is not there.

        Raises:
            Unusable: It is none that can be put together within the limits.
        """
        if len(self._parts) > self._limits.parts:
            raise Unusable(f"has more than {self._limits.parts:,} parts")
        contents = self._fetched(pull)
        if contents is None:
            return None
        try:
            _Scale(contents, self._limits).weigh(self.message_id)
            message = inflate_object_from_contents(self.message_id, contents)
        except Unusable:
            raise
        except Exception as error:  # protobuf's own among them
            raise Unusable(f"cannot be read ({type(error).__name__})") from error
        assert isinstance(message, Message)  # it was weighed as one
        if message.has_content():
            _check_values(message.content)
        return message

    def _fetched(self, pull: Callable[[str], bytes]) -> dict[str, bytes] | None:
        """All parts by their ids.

        The last ones come last, and one that was missing is asked for first. As long as one is missing nothing else of a large
        reply is fetched, and what was fetched is not kept: there are never the parts of two replies in memory.
        """
        contents: dict[str, bytes] = {}
        left = self._limits.whole
        for part in dict.fromkeys([*self._missing, *reversed(self._parts)]):
            try:
                contents[part] = pull(part)
            except (ObjectUnavailableError, ObjectIdNotPreregisteredError):  # the second where the run was ended meanwhile
                self._missing = [part]
                return None
            left -= len(contents[part])
            if left < 0:
                raise Unusable(f"has more than {self._limits.whole:,} bytes{_REMEDY}")
        return contents


class _Part:
    """A part of a message, as Flower writes it: a head with its kind and the ids of its own parts, and a body."""

    def __init__(self, content: bytes) -> None:
        self._content, self._start = content, content.index(HEAD_BODY_DIVIDER) + len(HEAD_BODY_DIVIDER)
        self.kind = content[: content.index(HEAD_VALUE_DIVIDER.encode())][:40].decode()

    @property
    def weight(self) -> tuple[int, int, int]:
        """Bytes that are numbers, what describes them, and texts."""
        size = len(self._content)
        if self.kind == "ArrayChunk":
            return size - self._start, self._start, 0
        return (0, 0, size) if self.kind == "ConfigRecord" else (0, size, 0)

    def named(self) -> tuple[Iterable[str], tuple[str, ...]]:
        """The ids of what it is made of, as often as it names each, and what these have to be.

        Raises:
            Unusable: Its head and its body do not name the same ones: Flower puts together what stands in the head.
        """
        _, parts, _ = get_object_head_values_from_object_content(self._content)
        found: Iterable[str] = ()
        if self.kind == "Message":
            found = parts
        elif self.kind in ("RecordDict", "ArrayRecord"):
            found = self._body().values()
        elif self.kind == "Array":
            found = [parts[place] for place in self._body()["arraychunk_ids"]]
        if set(parts) != set(found):
            raise Unusable(f"has a part of kind {self.kind!r} whose head names other parts than its body")
        return found, _MADE_OF.get(self.kind, ())

    def _body(self) -> Any:
        return parse_json(self._content[self._start :])


class _Scale:
    """Weighs a message by the heads of its parts.

    Args:
        contents: Its parts, by their ids.
        limits: What it may have at most.
    """

    def __init__(self, contents: Mapping[str, bytes], limits: ReplyLimits) -> None:
        self._parts, self._limits = {name: _Part(content) for name, content in contents.items()}, limits
        self._known: dict[str, tuple[int, int, int]] = {}

    def weigh(self, message_id: str) -> None:
        """Refuse a message that comes to more than its limits.

        Raises:
            Unusable: It does, or has another form than a message of records.
        """
        self._check(_sum(part.weight for part in self._parts.values()))  # before any of it is parsed
        self._check(self._weight(message_id, ("Message",)))

    def _weight(self, name: str, kinds: tuple[str, ...]) -> tuple[int, int, int]:
        """What a part comes to, with all that it names."""
        part = self._parts[name]
        if part.kind not in kinds:
            raise Unusable(f"has a part of kind {part.kind!r} in place of {' or '.join(kinds)}")
        if name not in self._known:
            named, inner = part.named()
            self._known[name] = _sum(itertools.chain([part.weight], (self._weight(each, inner) for each in named)))
        return self._known[name]

    def _check(self, weight: tuple[int, int, int]) -> None:
        limits = self._limits
        kinds = ("of arrays", "that describe arrays", "of texts")
        for count, most, what in zip(weight, (limits.numbers, limits.heads, limits.texts), kinds, strict=True):
            if count > most:
                raise Unusable(f"has {count:,} bytes {what}, and at most {most:,} fit{_REMEDY}")


def _sum(weights: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    numbers = heads = texts = 0
    for weight in weights:
        numbers, heads, texts = numbers + weight[0], heads + weight[1], texts + weight[2]
    return numbers, heads, texts


def _check_values(content: RecordDict) -> None:
    """Refuse lists without end: of a byte that came each number becomes many."""
    records: list[Any] = [*content.metric_records.values(), *content.config_records.values()]
    values = [value for record in records for value in record.values()]
    count = sum(len(value) if isinstance(value, list) else 1 for value in values)
    if count > _MOST_VALUES:
        raise Unusable(f"has {count:,} values beside its arrays, and at most {_MOST_VALUES:,} fit")
