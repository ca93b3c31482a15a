"""How large the reply to a request may be, by the request alone: known before anything of the reply is there.

What comes over a network is fetched, put together and hashed before it is known who has signed it. So all of that is bounded by
what the server itself has sent, whoever answers. The bounds are wide: what is well formed and somewhat too large is refused
later, by a sentence that says in what it does not fit (:mod:`.validation`).
"""

from dataclasses import dataclass
from functools import cached_property

from flwr.app import Message, MessageType

from .arrays import num_bytes_of
from .compression import compression_of
from .messages import arrays_of, config_of, returned, weight_names
from .versioned import LONGEST

#: Bytes of an array's file header that the limit on a reply's size allows for.
HEADER = 4096
#: How many times what is expected may come: float64 numbers, or those of twice the rank, are still told by their names.
_TIMES = 2
#: Bytes of arrays beside the weights: an identity token and 64 kinds of instructions, of some 60,000 numbers each.
_TOKENS = 2**24
#: Bytes of an array's name, and of what Flower says of the array beside its data.
_HEAD = 2**10
#: Bytes of what is no array: counts, or a signature and a sentence of failure.
_WORDS = 2**18
#: Bytes of a piece of an array's data; Flower makes them of 5 MiB, and none of a large array is smaller than this.
_PIECE = 2**18
#: Bytes for the name of such a piece.
_NAME = 80
#: Parts beside those of the weights.
_PARTS = 256


@dataclass(frozen=True)
class ReplyLimits:
    """What the reply to a request may have at most.

    Attributes:
        numbers: Bytes of its arrays' data.
        heads: Bytes of what describes them: their names, and what Flower says of each; and of the counts.
        texts: Bytes of its records of configuration.
        parts: Pieces in which it comes.
    """

    numbers: int
    heads: int
    texts: int
    parts: int

    @cached_property
    def whole(self) -> int:
        """Bytes of all of it."""
        return self.numbers + self.heads + self.texts


def limits_of(request: Message) -> ReplyLimits:
    """The limits of the reply to a request."""
    arrays = _TIMES * sum(len(returned(request, name)) for name in (*weight_names(request), *config_of(request).wants))
    numbers = _TIMES * bytes_of_weights(request, 4) + _TOKENS
    pieces = numbers // _PIECE
    texts = 0 if request.metadata.message_type in (MessageType.QUERY, MessageType.TRAIN) else LONGEST
    heads = _WORDS + arrays * _HEAD + pieces * _NAME
    return ReplyLimits(numbers, heads, _WORDS + texts, _PARTS + 2 * arrays + pieces)


def bytes_of_weights(request: Message, width: int | None = None) -> int:
    """Bytes of arrays that the reply to a request may have beside an identity token.

    Args:
        request: The request.
        width: Bytes of each number of the weights; None: as the request says how they are to be compressed.
    """
    if width is None:
        compression = compression_of(request)
        width = 4 if compression is None else compression.width
    sent = {key: num_bytes_of(array) for name in weight_names(request) for key, array in arrays_of(request, name).items()}
    # a tensor's scale fits into what is allowed for its header
    most = sum(sent[key] * width // 4 + HEADER for name in weight_names(request) for key in returned(request, name))
    return most + sum(sent[key] + HEADER for name in config_of(request).wants for key in returned(request, name))
