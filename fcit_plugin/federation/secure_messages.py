"""Secure sums as Flower's messages: a text in a record of its own beside the configuration, and masked updates as arrays."""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from ..errors import FcitError
from .arrays import digest_of, numbers_of
from .messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    SHARED,
    arrays_of,
    config_of,
    config_record,
    num_examples,
    record_of,
    returned,
    train_loss,
    work_of,
)
from .reply_parts import numbers_in
from .secure_sum.masks import digest
from .secure_sum.parts import HEAD, Update
from .secure_sum.texts import AGREE, KEYS, SHARES, TRAIN, UNMASK
from .secure_sum.texts import SHARED as OVER_ALL

#: Type of the message of each step.
KIND_OF: Mapping[str, str] = {
    KEYS: "query.keys",
    SHARES: "query.shares",
    TRAIN: MessageType.TRAIN,
    AGREE: "query.agree",
    UNMASK: "query.unmask",
}
STEP_OF = {kind: step for step, kind in KIND_OF.items()}
#: Names of the record with the text, of the text in it, and of the record with masked updates.
SUMS, TEXT, MASKED = "secure-sums", "text", "masked"
#: Masked numbers travel as int32, of the same bits: safetensors and Flower have both, and files of updates this one.
_TRAVELS = "int32"


def text_request(step: str, request: ConfigRecord, client: int, text: str) -> Message:
    """A request of a step that has no arrays.

    Args:
        step: The step.
        request: The configuration of the client's work.
        client: Whom it is for.
        text: What it says.
    """
    content = RecordDict({CONFIG: request, SUMS: ConfigRecord({TEXT: text})})
    return Message(content, dst_node_id=client, message_type=KIND_OF[step])


def text_in(content: RecordDict) -> object:
    """The text of a message, which may be anything; None where there is none."""
    record = content.get(SUMS)
    return record.get(TEXT) if isinstance(record, ConfigRecord) and set(record) == {TEXT} else None


def text_reply(content: RecordDict, text: str) -> RecordDict:
    """The reply to a request without arrays."""
    return RecordDict({CONFIG: work_of(_config(content)), SUMS: ConfigRecord({TEXT: text})})


def without_text(content: RecordDict) -> RecordDict:
    """What a client trains by: the same in every session, so that a reply that was kept is used again."""
    return RecordDict({name: record for name, record in content.items() if name != SUMS})


def masked_reply(content: RecordDict, masked: Mapping[str, np.ndarray]) -> RecordDict:
    """The reply to a training: its updates, masked."""
    arrays = {name: Array(numbers.view(_TRAVELS)) for name, numbers in masked.items()}
    return RecordDict({CONFIG: work_of(_config(content)), METRICS: MetricRecord(), MASKED: record_of(arrays)})


def masked_in(reply: Message, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The masked updates of a reply, uint32, each of the form that it must have.

    Args:
        reply: The reply.
        sizes: For each of the client's sums the numbers in it.

    Raises:
        FcitError: A record or an array has another form.
    """
    arrays = arrays_of(reply, MASKED)
    if set(arrays) != set(sizes):
        raise FcitError(f"it sends masked updates of {sorted(map(str, arrays))[:3]}, not of {sorted(sizes)}")
    return {
        name: numbers_in(arrays[name], (HEAD + size,), f"{MASKED}/{name}", _TRAVELS).view(np.uint32)
        for name, size in sizes.items()
    }


def records_of_sums(request: Message) -> dict[str, str]:
    """For each sum of the client of a request the record whose numbers are in it."""
    found = {str(config_of(request).subspace): ARRAYS}
    return found | ({OVER_ALL: SHARED} if SHARED in request.content else {})


def sizes_of_sums(request: Message) -> dict[str, int]:
    """For each of these sums how many numbers it has."""
    return {
        name: sum(int(np.prod(arrays_of(request, record)[key].shape)) for key in returned(request, record))
        for name, record in records_of_sums(request).items()
    }


def split_sum(numbers: np.ndarray, request: Message, name: str) -> dict[str, np.ndarray]:
    """The numbers of a sum by the keys of their record.

    Args:
        numbers: [n], in the order of the keys.
        request: Any of its clients' requests.
        name: The record.
    """
    sent, keys = arrays_of(request, name), sorted(returned(request, name))
    ends = np.cumsum([int(np.prod(sent[key].shape)) for key in keys])
    parts = np.split(numbers, ends[:-1])
    return {key: part.reshape(sent[key].shape) for key, part in zip(keys, parts, strict=True)}


def digests_of_sent(request: Message) -> dict[str, bytes]:
    """For each sum a digest of what all its clients are sent: weights, and what does not name one of them."""
    config = config_record(request)
    common = {key: repr(value) for key, value in sorted(config.items()) if key not in ("client", "task")}
    place = [f"{key}={common[key]}" for key in ("run", "stage", "round")]
    found = {}
    for name in records_of_sums(request):
        own = name != OVER_ALL
        records = [each for each in sorted(request.content.array_records) if own or each == SHARED]
        arrays = [
            part
            for record in records
            for key, array in sorted(arrays_of(request, record).items())
            for part in (record, key, array.dtype, list(array.shape), digest_of(array))
        ]
        about = [f"{key}={value}" for key, value in common.items()] if own else place
        found[name] = digest("sent", *about, *arrays)
    return found


def update_in(reply: Message, request: Message) -> Update:
    """What a client has trained, as its sums take it: changes of weights, in place of weights."""
    changes = {}
    for name, record in records_of_sums(request).items():
        sent, got = arrays_of(request, record), arrays_of(reply, record)
        changes[name] = {key: numbers_of(got[key]) - numbers_of(sent[key]) for key in returned(request, record)}
    return Update(num_examples(reply), train_loss(reply), changes)


def _config(content: RecordDict) -> ConfigRecord:
    return config_record(Message(content, dst_node_id=0, message_type=MessageType.TRAIN))
