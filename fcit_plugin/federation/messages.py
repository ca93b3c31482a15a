"""What travels between server and clients, as Flower records, and its size in bytes."""

from collections.abc import Sequence

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from ..adapters.lora import State
from ..knowledge.organizer import ClientToken

#: Names of the records in a message.
ARRAYS, SHARED, TOKEN, CONFIG, METRICS = "arrays", "shared", "token", "config", "metrics"
#: The weight of a reply, under the name that Flower's strategies look for.
NUM_EXAMPLES = "num-examples"


def to_record(state: State) -> ArrayRecord:
    """A state as float32 arrays (Flower's arrays take no bfloat16).

    The keys are sorted: some of Flower's strategies pair arrays by position, and a state that was read from a file
    has another order than one that comes from the model.
    """
    return ArrayRecord({key: Array(state[key].detach().to("cpu", torch.float32).numpy()) for key in sorted(state)})


def to_state(record: ArrayRecord) -> State:
    """The state in a record, float32: some of Flower's strategies return float64."""
    return {key: torch.from_numpy(np.array(array.numpy(), dtype=np.float32)) for key, array in record.items()}


def token_record(mean: np.ndarray) -> ArrayRecord:
    """An identity token as a record."""
    return ArrayRecord({"mean": Array(np.ascontiguousarray(mean, dtype=np.float32))})


def client_token(reply: Message) -> ClientToken:
    """The identity token in a reply.

    Raises:
        ValueError: The token is not finite or has no direction; the sentence names the client.
    """
    metrics = reply.content[METRICS]
    return ClientToken(
        client=reply.metadata.src_node_id,
        mean=reply.content[TOKEN]["mean"].numpy(),
        count=int(metrics["token-count"]),
        num_examples=int(metrics[NUM_EXAMPLES]),
    )


def token_reply(message: Message, token: ClientToken) -> Message:
    """The reply to a query for a client's identity token."""
    metrics = MetricRecord({NUM_EXAMPLES: token.num_examples, "token-count": token.count})
    return Message(RecordDict({TOKEN: token_record(token.mean), METRICS: metrics}), reply_to=message)


def update_reply(message: Message, subspace: State, shared: State, token: ClientToken, loss: float) -> Message:
    """All that leaves a client: its one subspace, the shared trainables, its identity token and its counts."""
    metrics = MetricRecord({NUM_EXAMPLES: token.num_examples, "token-count": token.count, "train-loss": loss})
    content = RecordDict({ARRAYS: to_record(subspace), TOKEN: token_record(token.mean), METRICS: metrics})
    if shared:
        content[SHARED] = to_record(shared)
    return Message(content, reply_to=message)


def part_of(reply: Message, request: Message, name: str) -> Message:
    """One record of a reply as the message that a Flower strategy aggregates: one ArrayRecord, one weight."""
    weight = MetricRecord({NUM_EXAMPLES: reply.content[METRICS][NUM_EXAMPLES]})
    return Message(RecordDict({ARRAYS: reply.content[name], METRICS: weight}), reply_to=request)


def config_of(message: Message) -> ConfigRecord:
    """The configuration in a message."""
    return message.content[CONFIG]


def mean_loss(replies: Sequence[Message]) -> float:
    """Mean training loss of some clients, weighted by their examples."""
    metrics = [reply.content[METRICS] for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id)]
    total = sum(metric[NUM_EXAMPLES] for metric in metrics)
    return sum(metric["train-loss"] * metric[NUM_EXAMPLES] for metric in metrics) / total


def num_bytes(message: Message) -> int:
    """Size of a message's arrays in bytes; the few scalars beside them are not counted."""
    return sum(len(array.data) for record in message.content.array_records.values() for array in record.values())
