"""What travels between server and clients, as Flower records, and its size in bytes.

Flower's records take many types of values. What ours hold is read here, by types: :class:`ClientConfig` is a request's
configuration, :func:`arrays_of` and the other functions give single records.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from ..adapters.lora import BOTH, Tensors, factor_of
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from ..knowledge.prototypes import Prototypes
from .arrays import num_bytes_of, numbers_of

#: Name of the record that tells clients what was added to the base weights (:mod:`..adapters.base_change`).
BASE = "base"
#: Names of the records in a message; the last are the state's identity tokens, for a client that picks its subspace by itself.
ARRAYS, SHARED, TOKEN, CONFIG, METRICS, TOKENS = "arrays", "shared", "token", "config", "metrics", "tokens"
#: In the record of a token: the mean (by the name of its form, :attr:`..knowledge.token_forms.TokenForm.key`), the means of a
#: client's kinds of instructions, and how many instructions are of each.
MEAN, KIND_MEANS, KIND_COUNTS = "mean", "kind-means", "kind-counts"
#: Scalars in a reply; the first is its weight, under the name that Flower's strategies look for.
NUM_EXAMPLES, TOKEN_COUNT, LOSS = "num-examples", "token-count", "train-loss"
#: In place of a token and its count: the subspace that a client has picked by itself, -1 for none.
CHOICE = "chosen-subspace"
#: Beside a token: how near its client's instructions lie to it, where that is told (:mod:`..knowledge.own_cosines`).
OWN_COSINES = "own-cosines"
#: Key of the configuration with the number of the client's subspace.
SUBSPACE = "subspace"
#: Key of the configuration that lists the records which a client must send beside its weights. A method and a server
#: rule may want some, and send some; in each the keys are those of the subspace and of the shared trainables together.
WANTS = "wants"
#: The LoRA factors that a client trains and returns; both where the configuration does not say. The server rule knows
#: only of these, and :data:`OF_TRAINED` lists the records that are wanted for it.
TRAINS, OF_TRAINED = "trains", "wants-of-trained"
#: How the weights in a reply are compressed (:mod:`.compression`), nothing if they are not; and beside it, whether the
#: client's update may open its subspace: then the number that the request has for that is not settled yet.
COMPRESSION, OPENS = "compression", "opens"
#: Key of the configuration with the client's piece of a learning rate's schedule, from 0, and how many it has.
LINK = "link"
#: What tells one client's work in one round from any other; a reply repeats it.
WORK_KEYS = ("run", "stage", "round", "client", "task")

RecordT = TypeVar("RecordT", ArrayRecord, MetricRecord, ConfigRecord)
Value = TypeVar("Value")


@dataclass(frozen=True)
class ClientConfig:
    """What a client has to know.

    Attributes:
        run: Which run it is (:attr:`.program.Program.run_id`).
        stage: Where that is.
        round: Where that is, counted in the stage.
        client: Which client this is for.
        task: Index of the task to work on.
        subspace: Number of the subspace to train; None where none is assigned, as in a query.
        trains: The LoRA factors to train and return: "AB", "A" or "B".
        wants: Names of the records to send beside the weights.
        of_trained: Those of them that hold the trained factors alone.
        compression: How to compress the weights in the reply, None: not at all.
        opens: Whether the update may open its subspace, whose number is not settled then.
        link: Where several trainings share a learning rate's schedule, which piece this one has, from 0, and of how many.
        of_rule: What the server rule tells its clients, by its own keys.
    """

    run: str
    stage: int
    round: int
    client: int
    task: int
    subspace: int | None = None
    trains: str = BOTH
    wants: tuple[str, ...] = ()
    of_trained: tuple[str, ...] = ()
    compression: str | None = None
    opens: bool = False
    link: tuple[int, int] | None = None
    of_rule: ConfigRecord = field(default_factory=ConfigRecord)

    def to_record(self) -> ConfigRecord:
        """The configuration as it travels; what is as usual is left out."""
        optional = {
            COMPRESSION: self.compression,
            SUBSPACE: self.subspace,
            WANTS: list(self.wants) or None,
            TRAINS: None if self.trains == BOTH else self.trains,
            OF_TRAINED: list(self.of_trained) or None,
            OPENS: self.opens or None,
            LINK: None if self.link is None else list(self.link),
        }
        more = {key: value for key, value in optional.items() if value is not None}
        return ConfigRecord({**self.of_rule, **{key: getattr(self, key) for key in WORK_KEYS}, **more})

    @classmethod
    def from_record(cls, record: ConfigRecord) -> "ClientConfig":
        """Read what :meth:`to_record` has written.

        Raises:
            KeyError: A key is missing.
            TypeError: A value is of another type; the sentence names the key.
        """
        known = (*WORK_KEYS, SUBSPACE, TRAINS, WANTS, OF_TRAINED, COMPRESSION, OPENS, LINK)
        return cls(
            run=_read(record, "run", str),
            stage=_read(record, "stage", int),
            round=_read(record, "round", int),
            client=_read(record, "client", int),
            task=_read(record, "task", int),
            subspace=_read(record, SUBSPACE, int) if SUBSPACE in record else None,
            trains=_read(record, TRAINS, str) if TRAINS in record else BOTH,
            wants=tuple(_read(record, WANTS, list)) if WANTS in record else (),
            of_trained=tuple(_read(record, OF_TRAINED, list)) if OF_TRAINED in record else (),
            compression=_read(record, COMPRESSION, str) if COMPRESSION in record else None,
            opens=_read(record, OPENS, bool) if OPENS in record else False,
            link=_link(record) if LINK in record else None,
            of_rule=ConfigRecord({key: value for key, value in record.items() if key not in known}),
        )


def _link(record: ConfigRecord) -> tuple[int, int]:
    link = _read(record, LINK, list)
    if len(link) != 2 or not all(isinstance(number, int) for number in link) or not 0 <= link[0] < link[1]:
        raise TypeError(f"`{LINK}` is {link}, not a place and a larger number of links")
    return link[0], link[1]


def _read(record: ConfigRecord | MetricRecord, key: str, *kinds: type[Value]) -> Value:
    value = record[key]
    if not isinstance(value, kinds):
        raise TypeError(f"`{key}` is of type {type(value).__name__}, not {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def record_in(content: RecordDict, name: str, kind: type[RecordT]) -> RecordT:
    """The record of a name.

    Raises:
        KeyError: There is none.
        TypeError: It is of another kind.
    """
    record = content[name]
    if not isinstance(record, kind):
        raise TypeError(f"the record {name} is of type {type(record).__name__}, not {kind.__name__}")
    return record


def arrays_of(message: Message, name: str = ARRAYS) -> ArrayRecord:
    """The array record of a name in a message, see :func:`record_in`."""
    return record_in(message.content, name, ArrayRecord)


def metrics_of(message: Message) -> MetricRecord:
    """The scalars in a reply, see :func:`record_in`."""
    return record_in(message.content, METRICS, MetricRecord)


def config_record(message: Message) -> ConfigRecord:
    """The configuration in a message as it is, see :func:`record_in`; in a reply its values may be anything."""
    return record_in(message.content, CONFIG, ConfigRecord)


def config_of(request: Message) -> ClientConfig:
    """The configuration in a request."""
    return ClientConfig.from_record(config_record(request))


def weight_names(message: Message) -> list[str]:
    """Names of the records with weights that a message has: :data:`ARRAYS` and :data:`SHARED`."""
    return [name for name in (ARRAYS, SHARED) if name in message.content]


def num_examples(reply: Message) -> int:
    """n_c, the reply's weight."""
    return _read(metrics_of(reply), NUM_EXAMPLES, int)


def to_record(state: Tensors) -> ArrayRecord:
    """A state as float32 arrays (Flower's arrays take no bfloat16).

    The keys are sorted: some of Flower's strategies pair arrays by position, and a state that was read from a file
    has another order than one that comes from the model.
    """
    return ArrayRecord({key: Array(state[key].detach().to("cpu", torch.float32).numpy()) for key in sorted(state)})


def zeros_record(like: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Zeros of the shapes of a state, which may have no values, as :func:`to_record` would make a record of it."""
    return ArrayRecord({key: Array(np.zeros(tuple(like[key].shape), np.float32)) for key in sorted(like)})


def record_of(arrays: Mapping[str, Array]) -> ArrayRecord:
    """A record of these very arrays; the constructor would copy them, and read what is left in a file (:mod:`.stored`)."""
    record = ArrayRecord()
    for key, array in arrays.items():
        record[key] = array
    return record


def to_state(record: Mapping[str, Array]) -> Tensors:
    """The state in a record, float32: some of Flower's strategies return float64."""
    return {key: torch.from_numpy(np.array(numbers_of(array), dtype=np.float32)) for key, array in record.items()}


def token_record(token: ClientToken, key: str = MEAN) -> ArrayRecord:
    """An identity token as a record: the mean, by the name of its form, and the kinds of instructions where they are told."""
    arrays = {key: np.ascontiguousarray(token.mean, dtype=np.float32)}
    if token.kinds is not None:
        arrays |= {KIND_MEANS: token.kinds.means, KIND_COUNTS: token.kinds.counts}
    return ArrayRecord({key: Array(np.ascontiguousarray(array)) for key, array in arrays.items()})


def _of_token(token: ClientToken) -> dict[str, int | list[int]]:
    """What goes with a token's record: how many instructions are in it, and how near they lie to it where that is told."""
    counts = {} if token.own_cosines is None else {OWN_COSINES: [*token.own_cosines]}
    return {TOKEN_COUNT: token.count, **counts}


def client_token(reply: Message) -> ClientToken | WithoutToken:
    """The identity token in a reply, or what a client tells in its place.

    Raises:
        FcitError: The token is not finite or has no direction; the sentence names the client.
    """
    if TOKEN not in reply.content:
        scalars = metrics_of(reply)
        chosen = _read(scalars, CHOICE, int) if CHOICE in scalars else -1
        return WithoutToken(reply.metadata.src_node_id, num_examples(reply), None if chosen < 0 else chosen)
    token = arrays_of(reply, TOKEN)
    (key,) = token.keys() - {KIND_MEANS, KIND_COUNTS}
    return ClientToken(
        client=reply.metadata.src_node_id,
        mean=numbers_of(token[key]),
        count=_read(metrics_of(reply), TOKEN_COUNT, int),
        num_examples=num_examples(reply),
        kinds=Prototypes(numbers_of(token[KIND_MEANS]), numbers_of(token[KIND_COUNTS])) if KIND_MEANS in token else None,
        own_cosines=tuple(_read(metrics_of(reply), OWN_COSINES, list)) if OWN_COSINES in metrics_of(reply) else None,
    )


def with_token(reply: Message, request: Message, token: ClientToken | WithoutToken, key: str = MEAN) -> Message:
    """A reply as if its client had named another token and other counts; all else in it is the same.

    Args:
        reply: The reply, which is left alone.
        request: What it answers.
        token: What takes the place of its token, its token count and its number of examples.
        key: Names the token's form.
    """
    content, metrics = RecordDict(dict(reply.content)), {**metrics_of(reply), NUM_EXAMPLES: token.num_examples}
    if isinstance(token, ClientToken):
        content[TOKEN] = token_record(token, key)
        metrics |= _of_token(token)
    content[METRICS] = MetricRecord(metrics)
    return Message(content, reply_to=request)


def tokens_record(tokens: SubspaceTokens) -> ArrayRecord:
    """The state's identity tokens as a record: sums and counts, without kinds."""
    return ArrayRecord({key: Array(np.ascontiguousarray(getattr(tokens, key))) for key in ("sums", "counts")})


def tokens_in(message: Message) -> SubspaceTokens:
    """What :func:`tokens_record` has put into a message."""
    record = arrays_of(message, TOKENS)
    return SubspaceTokens(numbers_of(record["sums"]), numbers_of(record["counts"]))


def token_reply(message: Message, token: ClientToken | WithoutToken, key: str = MEAN) -> Message:
    """The reply to a query for a client's identity token; `key` names the token's form."""
    content = RecordDict({CONFIG: work_of(config_record(message))})
    metrics: dict[str, Any] = {NUM_EXAMPLES: token.num_examples}
    if isinstance(token, ClientToken):
        content[TOKEN] = token_record(token, key)
        metrics |= _of_token(token)
    elif TOKENS in message.content:
        metrics[CHOICE] = -1 if token.subspace is None else token.subspace
    content[METRICS] = MetricRecord(metrics)
    return Message(content, reply_to=message)


def update_reply(
    message: Message,
    subspace: Tensors,
    shared: Tensors,
    token: ClientToken | WithoutToken,
    loss: float,
    extras: Mapping[str, Tensors] | None = None,
    key: str = MEAN,
) -> Message:
    """All that leaves a client: its one subspace, the shared trainables, its identity token and its counts.

    And what a method or a server rule asked for (:data:`WANTS`). A client without a token names the subspace that it had
    picked; `key` names the token's form.
    """
    content = RecordDict({ARRAYS: to_record(subspace)})
    metrics: dict[str, Any] = {NUM_EXAMPLES: token.num_examples, LOSS: loss}
    if isinstance(token, ClientToken):
        content[TOKEN] = token_record(token, key)
        metrics |= _of_token(token)
    else:
        chosen = config_of(message).subspace
        assert chosen is not None  # a request to train names it
        metrics[CHOICE] = chosen
    content[METRICS] = MetricRecord(metrics)
    content[CONFIG] = work_of(config_record(message))
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
    content = RecordDict({METRICS: MetricRecord({NUM_EXAMPLES: num_examples(reply)})})
    for record, source in ((ARRAYS, name), *((extra, extra) for extra in wanted)):
        arrays = arrays_of(reply, source)
        content[record] = record_of({key: arrays[key] for key in keys})
    return Message(content, reply_to=request)


def extras_of(message: Message) -> dict[str, Tensors]:
    """What travels in a message beside weights and token, by the name of its record."""
    own = (ARRAYS, SHARED, TOKEN, TOKENS)
    return {name: to_state(record) for name, record in message.content.array_records.items() if name not in own}


def returned(request: Message, name: str) -> list[str]:
    """The keys in one record of the reply to a request: all that were sent, but of a subspace only what is trained.

    Args:
        request: The request.
        name: :data:`ARRAYS`, :data:`SHARED`, or a record that is wanted beside them.
    """
    config = config_of(request)
    factors = BOTH if name in config.wants and name not in config.of_trained else config.trains
    own = [] if name == SHARED else [key for key in arrays_of(request) if factor_of(key) in factors]
    return [*own, *(arrays_of(request, SHARED) if name != ARRAYS and SHARED in request.content else ())]


def work_of(config: Mapping[str, Any]) -> ConfigRecord:
    """The part of a client's configuration that its reply repeats."""
    return ConfigRecord({key: config[key] for key in WORK_KEYS})


def mean_loss(replies: Collection[Message]) -> float:
    """Mean training loss of some clients, weighted by their examples."""
    replies = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
    total = sum(map(num_examples, replies))
    return sum(train_loss(reply) * num_examples(reply) for reply in replies) / total


def told_loss(reply: Message) -> float | None:
    """The training loss in a reply that nobody has judged yet; None where it tells no finite number."""
    record = reply.content.get(METRICS)
    loss = record.get(LOSS) if isinstance(record, MetricRecord) else None
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


def train_loss(reply: Message) -> float:
    """The mean training loss that a client tells."""
    return float(_read(metrics_of(reply), LOSS, int, float))


def num_bytes(message: Message) -> int:
    """Size of a message's arrays in bytes; the few scalars beside them are not counted, and an error has none."""
    if message.has_error():
        return 0
    return sum(num_bytes_of(array) for record in message.content.array_records.values() for array in record.values())
