"""What travels between server and clients, as Flower records, and its size in bytes."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from ..adapters.lora import BOTH, Tensors, factor_of
from ..knowledge.identity_tokens import ClientToken
from ..knowledge.prototypes import Prototypes

#: Name of the record that tells clients what was added to the base weights (:mod:`..adapters.base_change`).
BASE = "base"
#: Names of the records in a message.
ARRAYS, SHARED, TOKEN, CONFIG, METRICS = "arrays", "shared", "token", "config", "metrics"
#: In the record of a token: the means of a client's kinds of instructions, and how many instructions are of each.
KIND_MEANS, KIND_COUNTS = "kind-means", "kind-counts"
#: Scalars in a reply; the first is its weight, under the name that Flower's strategies look for.
NUM_EXAMPLES, TOKEN_COUNT, LOSS = "num-examples", "token-count", "train-loss"
#: Key of the configuration that lists the records which a client must send beside its weights. A method and a server
#: rule may want some, and send some; in each the keys are those of the subspace and of the shared trainables together.
WANTS = "wants"
#: The LoRA factors that a client trains and returns; both where the configuration does not say. The server rule knows
#: only of these, and :data:`OF_TRAINED` lists the records that are wanted for it.
TRAINS, OF_TRAINED = "trains", "wants-of-trained"
#: How the weights in a reply are compressed (:mod:`.compression`), nothing if they are not; and beside it, whether the
#: client's update may open its subspace: then the number that the request has for that is not settled yet.
COMPRESSION, OPENS = "compression", "opens"
#: What tells one client's work in one round from any other; a reply repeats it.
WORK_KEYS = ("run", "stage", "round", "client", "task")


def to_record(state: Tensors) -> ArrayRecord:
    """A state as float32 arrays (Flower's arrays take no bfloat16).

    The keys are sorted: some of Flower's strategies pair arrays by position, and a state that was read from a file
    has another order than one that comes from the model.
    """
    return ArrayRecord({key: Array(state[key].detach().to("cpu", torch.float32).numpy()) for key in sorted(state)})


def record_of(arrays: Mapping[str, Array]) -> ArrayRecord:
    """A record of these very arrays; the constructor would copy them, and read what is left in a file (:mod:`.stored`)."""
    record = ArrayRecord()
    for key, array in arrays.items():
        record[key] = array
    return record


def to_state(record: Mapping[str, Array]) -> Tensors:
    """The state in a record, float32: some of Flower's strategies return float64."""
    return {key: torch.from_numpy(np.array(array.numpy(), dtype=np.float32)) for key, array in record.items()}


def token_record(token: ClientToken) -> ArrayRecord:
    """An identity token as a record: the mean, and the kinds of instructions if the client tells them."""
    arrays = {"mean": np.ascontiguousarray(token.mean, dtype=np.float32)}
    if token.kinds is not None:
        arrays |= {KIND_MEANS: token.kinds.means, KIND_COUNTS: token.kinds.counts}
    return ArrayRecord({key: Array(np.ascontiguousarray(array)) for key, array in arrays.items()})


def client_token(reply: Message) -> ClientToken:
    """The identity token in a reply.

    Raises:
        FcitError: The token is not finite or has no direction; the sentence names the client.
    """
    metrics, token = reply.content[METRICS], reply.content[TOKEN]
    return ClientToken(
        client=reply.metadata.src_node_id,
        mean=token["mean"].numpy(),
        count=int(metrics[TOKEN_COUNT]),
        num_examples=int(metrics[NUM_EXAMPLES]),
        kinds=Prototypes(token[KIND_MEANS].numpy(), token[KIND_COUNTS].numpy()) if KIND_MEANS in token else None,
    )


def token_reply(message: Message, token: ClientToken) -> Message:
    """The reply to a query for a client's identity token."""
    metrics = MetricRecord({NUM_EXAMPLES: token.num_examples, TOKEN_COUNT: token.count})
    content = RecordDict({TOKEN: token_record(token), METRICS: metrics, CONFIG: work_of(config_of(message))})
    return Message(content, reply_to=message)


def update_reply(
    message: Message,
    subspace: Tensors,
    shared: Tensors,
    token: ClientToken,
    loss: float,
    extras: Mapping[str, Tensors] | None = None,
) -> Message:
    """All that leaves a client: its one subspace, the shared trainables, its identity token and its counts.

    And what a method or a server rule asked for (:data:`WANTS`).
    """
    metrics = MetricRecord({NUM_EXAMPLES: token.num_examples, TOKEN_COUNT: token.count, LOSS: loss})
    content = RecordDict({ARRAYS: to_record(subspace), TOKEN: token_record(token), METRICS: metrics})
    content[CONFIG] = work_of(config_of(message))
    if shared:
        content[SHARED] = to_record(shared)
    for name, extra in (extras or {}).items():
        content[name] = to_record(extra)
    return Message(content, reply_to=message)


def part_of(reply: Message, request: Message, name: str, wanted: Sequence[str] = ()) -> Message:
    """One record of a reply as the message that a Flower strategy aggregates: one ArrayRecord, one weight.

    The record is a new one, with the keys in the order of what was sent: strategies pair arrays by position, and
    some take them out of the record.

    Args:
        reply: The reply.
        request: What it answers.
        name: :data:`ARRAYS` or :data:`SHARED`.
        wanted: Records beside the weights that the strategy wants (:attr:`.rules.RuleSet.wants`): their part of these keys.
    """
    keys = returned(request, name)
    content = RecordDict({METRICS: MetricRecord({NUM_EXAMPLES: reply.content[METRICS][NUM_EXAMPLES]})})
    for record, source in ((ARRAYS, name), *((extra, extra) for extra in wanted)):
        content[record] = record_of({key: reply.content[source][key] for key in keys})
    return Message(content, reply_to=request)


def extras_of(message: Message) -> dict[str, Tensors]:
    """What travels in a message beside weights and token, by the name of its record."""
    own = (ARRAYS, SHARED, TOKEN)
    return {name: to_state(record) for name, record in message.content.array_records.items() if name not in own}


def wanted(message: Message) -> tuple[str, ...]:
    """Names of the records that a request wants beside the weights."""
    return tuple(config_of(message).get(WANTS, ()))


def returned(request: Message, name: str) -> list[str]:
    """The keys in one record of the reply to a request: all that were sent, but of a subspace only what is trained.

    Args:
        request: The request.
        name: :data:`ARRAYS`, :data:`SHARED`, or a record that is wanted beside them.
    """
    config = config_of(request)
    factors = BOTH if name in wanted(request) and name not in config.get(OF_TRAINED, ()) else trained_factors(config)
    own = () if name == SHARED else [key for key in request.content[ARRAYS] if factor_of(key) in factors]
    return [*own, *(() if name == ARRAYS else request.content.get(SHARED, ()))]


def trained_factors(config: ConfigRecord) -> str:
    """The LoRA factors that a client trains: "AB", "A" or "B"."""
    return config.get(TRAINS, BOTH)


def work_of(config: ConfigRecord) -> ConfigRecord:
    """The part of a client's configuration that its reply repeats."""
    return ConfigRecord({key: config[key] for key in WORK_KEYS})


def config_of(message: Message) -> ConfigRecord:
    """The configuration in a message."""
    return message.content[CONFIG]


def mean_loss(replies: Sequence[Message]) -> float:
    """Mean training loss of some clients, weighted by their examples."""
    metrics = [reply.content[METRICS] for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id)]
    total = sum(metric[NUM_EXAMPLES] for metric in metrics)
    return sum(metric[LOSS] * metric[NUM_EXAMPLES] for metric in metrics) / total


def num_bytes(message: Message) -> int:
    """Size of a message's arrays in bytes; the few scalars beside them are not counted, and an error has none."""
    if message.has_error():
        return 0
    return sum(len(array.data) for record in message.content.array_records.values() for array in record.values())


def array_header(shape: Sequence[int], dtype: str = "float32", fortran_order: bool = False) -> bytes:
    """What an array in a message begins with before its numbers: the head of NumPy's file format."""
    stream, descr = BytesIO(), np.dtype(dtype).newbyteorder("<").str
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": fortran_order, "shape": tuple(shape)})
    return stream.getvalue()
