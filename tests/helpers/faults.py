"""Ways in which a client's reply can be wrong: the table behind docs/guide/reliability.md.

A fault turns a good reply into the messages that arrive instead, as the hook ``fcit_intercept_reply`` does.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.messages import ARRAYS, CONFIG, LOSS, METRICS, NUM_EXAMPLES, OWN_COSINES, SHARED, TOKEN, TOKEN_COUNT
from fcit_plugin.knowledge.own_cosines import BINS

A, B, P = "l.lora_A.weight", "l.lora_B.weight", "projector.weight"
BOTH, QUERY, TRAIN = (MessageType.QUERY, MessageType.TRAIN), (MessageType.QUERY,), (MessageType.TRAIN,)
#: The node that nobody asked, and a client whose name another one uses.
STRANGER, VICTIM = 99, 1

Apply = Callable[[Message, Message], list[Message]]


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        name: What goes wrong, for people.
        phases: In answers to which messages it makes sense.
        apply: From request and good reply to what arrives.
        says: A part of the reason that is recorded.
        left_out: Who is left out: the client itself, unless it speaks in the name of others.
    """

    name: str
    phases: tuple[str, ...]
    apply: Apply
    says: str
    left_out: Callable[[int], set[int]] = lambda client: {client}


def raises(error: BaseException) -> Apply:
    def apply(request, reply):
        raise error

    return apply


def fails(reason: str | None) -> Apply:
    return lambda request, reply: [Message(Error(0, reason), reply_to=request)]


def edit(change: Callable[[RecordDict], None]) -> Apply:
    """A change of the reply's records in place."""

    def apply(request, reply):
        change(reply.content)
        return [reply]

    return apply


def config(**changes) -> Apply:
    return edit(lambda content: content.update({CONFIG: ConfigRecord({**content[CONFIG], **changes})}))


def metrics(**changes) -> Apply:
    names = {"examples": NUM_EXAMPLES, "count": TOKEN_COUNT, "loss": LOSS, "cosines": OWN_COSINES}
    changes = {names.get(key, key): value for key, value in changes.items()}
    return edit(lambda content: content.update({METRICS: MetricRecord({**content[METRICS], **changes})}))


def cosines(*counts: int) -> Apply:
    return metrics(cosines=[*counts])


def drop(record: str, key: str | None = None) -> Apply:
    return edit(lambda content: content[record].pop(key) if key else content.pop(record))


def tensor(record: str, key: str, change: Callable[[np.ndarray], np.ndarray]) -> Apply:
    """Another array in place of the one that was there."""

    def put(content):
        content[record][key] = Array(np.ascontiguousarray(change(content[record][key].numpy().copy())))

    return edit(put)


def raw(record: str, key: str, change: Callable[[Array], dict]) -> Apply:
    """Other fields of Flower's array than the honest ones."""

    def put(content):
        for name, value in change(content[record][key]).items():
            setattr(content[record][key], name, value)

    return edit(put)


def header(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def element(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array):
        array.flat[-1] = value
        return array

    return change


def in_another_name(node: int) -> Apply:
    """The client's own reply, and a second one as if it came from another node."""

    def apply(request, reply):
        forged = Message(RecordDict(dict(request.content)), dst_node_id=node, message_type=request.metadata.message_type)
        return [reply, Message(reply.content, reply_to=forged)]

    return apply


def answer_to_another_kind(request, reply):
    kind = MessageType.EVALUATE
    asked = Message(RecordDict(), dst_node_id=request.metadata.dst_node_id, message_type=kind)
    return [Message(reply.content, reply_to=asked)]


def swap(content: RecordDict) -> None:
    content[ARRAYS], content[SHARED] = content[SHARED], content[ARRAYS]


def rename(content: RecordDict) -> None:
    content[ARRAYS]["l.lora_a.weight"] = content[ARRAYS].pop(A)


def grow(factor: float) -> Apply:
    """All weights far away from where they were."""

    def apply(request, reply):
        for record in (ARRAYS, SHARED):
            for key, array in reply.content[record].items():
                sent = request.content[record][key].numpy()
                reply.content[record][key] = Array((sent + factor * (array.numpy() - sent)).astype(np.float32))
        return [reply]

    return apply


TABLE = [
    # the client fails
    Fault("is refused with a sentence", BOTH, raises(FcitError("the file x.json has no answers")), "x.json has no answers"),
    Fault("meets a number that is not finite", BOTH, raises(FloatingPointError("the loss is inf")), "the loss is inf"),
    Fault("runs out of memory on a machine of its own", BOTH, fails("CUDA out of memory"), "CUDA out of memory"),
    Fault("raises an error of several lines", BOTH, raises(FcitError("a\nb\x1b[31m")), "a b"),
    Fault("gives up by itself after too long", BOTH, raises(TimeoutError("it took longer")), "it took longer"),
    Fault("gives no reply", BOTH, lambda request, reply: [], "it gave no reply"),
    Fault("says that it failed, without a reason", BOTH, fails(None), "it failed with code 0"),
    Fault("says that it failed, at great length", BOTH, fails("why? " * 100_000), "why? why?"),
    # envelope
    Fault("replies twice alike", BOTH, lambda request, reply: [reply, reply], "it appears twice"),
    Fault("replies twice, the second time with an error", BOTH, lambda q, r: [r, *fails("oh")(q, r)], "it appears twice"),
    Fault("replies three times", BOTH, lambda request, reply: [reply] * 3, "with 3 replies"),
    Fault(
        "replies in the name of a node that nobody asked",
        BOTH,
        in_another_name(STRANGER),
        "without being asked",
        lambda client: {STRANGER},
    ),
    Fault(
        "replies in the name of another client (Flower's runtimes rule it out)",
        BOTH,
        in_another_name(VICTIM),
        "appears twice",
        lambda client: {VICTIM},
    ),
    Fault("answers another kind of message", BOTH, answer_to_another_kind, "it answers 'evaluate'"),
    Fault("does not say which request it answers", BOTH, drop(CONFIG), "does not say which request"),
    Fault("says so in a record of another kind", BOTH, edit(lambda c: c.update({CONFIG: MetricRecord()})), "which request"),
    Fault("says half of it", BOTH, drop(CONFIG, "round"), "which request"),
    Fault("says more than was asked", BOTH, config(note="x" * 10_000), "which request"),
    Fault("is of another run", BOTH, config(run="0123456789abcdef"), "it is of run '0123456789abcdef'"),
    Fault("is of another stage", BOTH, config(stage=4), "it is of stage 4, not 0"),
    Fault("is of an earlier round", BOTH, config(round=-1), "it is of round -1, not 0"),
    Fault("is of another client", BOTH, config(client=12), "it is of client 12"),
    Fault("is of another task", BOTH, config(task=1), "it is of task 1, not 0"),
    Fault("names the round as text", BOTH, config(round="0"), "it is of round '0', not 0"),
    Fault("names the round as a huge list", BOTH, config(round=[0] * 10_000), "it is of round a list of 10000"),
    # counts
    Fault("reports no examples", BOTH, metrics(examples=0), "num-examples 0"),
    Fault("reports fewer than no examples", BOTH, metrics(examples=-5), "num-examples -5"),
    Fault("reports 2^62 examples", BOTH, metrics(examples=2**62), "num-examples 4611686018427387904"),
    Fault("reports more examples than `fcit_max_client_samples`", BOTH, metrics(examples=101), "num-examples 101"),
    Fault("reports half an example", BOTH, metrics(examples=20.5), "num-examples 20.5"),
    Fault("reports NaN examples", BOTH, metrics(examples=float("nan")), "num-examples nan"),
    Fault("reports a list of examples", BOTH, metrics(examples=[1, 2]), "num-examples a list of 2"),
    Fault("reports no number of examples at all", BOTH, drop(METRICS, NUM_EXAMPLES), "it reports "),
    Fault("reports a token count of 0", BOTH, metrics(count=0), "token-count 0"),
    Fault("reports more than was asked for", BOTH, metrics(age=42), "it reports age, "),
    Fault("reports nothing", BOTH, drop(METRICS), "it holds the records"),
    Fault("tells cosines in too few bins", BOTH, cosines(*[0] * (BINS - 2), 10), "own-cosines are a list of 39, not 40"),
    Fault("tells cosines in too many bins", BOTH, cosines(*[0] * BINS, 10), "own-cosines are a list of 41, not 40"),
    Fault("tells no list of cosines", BOTH, metrics(cosines=10), "own-cosines are 10, not 40"),
    Fault("tells cosines themselves", BOTH, metrics(cosines=[0.7] * BINS), "own-cosines are a list of 40, not 40 whole"),
    Fault("tells cosines of nothing", BOTH, cosines(*[0] * BINS), "own-cosines do not count its"),
    Fault("tells of a single record's cosine", BOTH, cosines(1, *[0] * (BINS - 2), 9), "do not count its"),
    Fault("tells fewer than no cosines", BOTH, cosines(-5, *[0] * (BINS - 2), 10), "own-cosines do not count its"),
    Fault("tells 2^62 cosines", BOTH, cosines(*[0] * (BINS - 1), 2**62), "own-cosines do not count its"),
    Fault("tells more cosines than it has instructions", BOTH, cosines(*[5] * BINS), "own-cosines do not count its"),
    # identity token
    Fault("has NaN in its token", BOTH, tensor(TOKEN, "mean", element(np.nan)), "its identity token is not finite"),
    Fault("has infinity in its token", BOTH, tensor(TOKEN, "mean", element(-np.inf)), "its identity token is not finite"),
    Fault("has a token of zeros", BOTH, tensor(TOKEN, "mean", np.zeros_like), "identity token has norm 0"),
    Fault("has a token that is too long", BOTH, tensor(TOKEN, "mean", lambda a: np.append(a, a)), "token is of shape (12,)"),
    Fault("has a token that is too short", BOTH, tensor(TOKEN, "mean", lambda a: a[:3]), "identity token is of shape (3,)"),
    Fault("has a token without numbers", BOTH, tensor(TOKEN, "mean", lambda a: a[:0]), "identity token is of shape (0,)"),
    Fault("has a matrix for a token", BOTH, tensor(TOKEN, "mean", lambda a: a.reshape(2, 3)), "token is of shape (2, 3)"),
    Fault("has a token of float64", BOTH, tensor(TOKEN, "mean", lambda a: a.astype(float)), "of dtype 'float64'"),
    Fault("has a token of astronomic size", BOTH, tensor(TOKEN, "mean", lambda a: a * 1e30), "identity token has norm 1"),
    Fault("has a token a thousand times the others'", QUERY, tensor(TOKEN, "mean", lambda a: a * 1e3), "fcit_max_norm_ratio"),
    Fault("has no token", BOTH, drop(TOKEN), "it holds the records"),
    Fault("has its token under another name", BOTH, edit(lambda c: c[TOKEN].update(m=c[TOKEN].pop("mean"))), "holds m, not"),
    Fault("adds a second token", BOTH, edit(lambda c: c[TOKEN].update(m=c[TOKEN]["mean"])), "holds m, mean, not mean"),
    # records and files
    Fault(
        "answers a query with megabytes", QUERY, edit(lambda c: c.update({ARRAYS: ArrayRecord()})), "holds the records arrays"
    ),
    Fault("sends a pickle", BOTH, raw(TOKEN, "mean", lambda a: {"data": pickle.dumps([1])}), "NumPy's format"),
    Fault("sends an array of Python objects", BOTH, raw(TOKEN, "mean", lambda a: {"data": header("|O", (6,))}), "format"),
    Fault("announces a terabyte", BOTH, raw(TOKEN, "mean", lambda a: {"data": header("<f4", (2**38,))}), "format"),
    Fault("sends a mangled file", BOTH, raw(TOKEN, "mean", lambda a: {"data": b"\x93NUMPY\x01\x00((((" + a.data}), "format"),
    Fault("sends an empty file", BOTH, raw(TOKEN, "mean", lambda a: {"data": b""}), "NumPy's format"),
    Fault("sends half a file", BOTH, raw(TOKEN, "mean", lambda a: {"data": a.data[:-7]}), "its identity token has "),
    Fault("sends a file with more behind it", TRAIN, raw(ARRAYS, A, lambda a: {"data": a.data + b"more"}), "arrays/l.lora_A"),
    Fault("names a serialization of its own", BOTH, raw(TOKEN, "mean", lambda a: {"stype": "torch.save"}), "format"),
    Fault("sends megabytes more than fit", TRAIN, raw(ARRAYS, A, lambda a: {"data": a.data + bytes(10**6)}), "bytes of arrays"),
    # weights
    Fault("has NaN in its weights", TRAIN, tensor(ARRAYS, B, element(np.nan)), "arrays/l.lora_B.weight is not finite"),
    Fault("has infinity in its weights", TRAIN, tensor(ARRAYS, A, element(np.inf)), "arrays/l.lora_A.weight is not finite"),
    Fault("has infinity in the projector", TRAIN, tensor(SHARED, P, element(-np.inf)), "shared/projector.weight is not"),
    Fault("leaves out a tensor", TRAIN, drop(ARRAYS, B), "arrays/l.lora_B.weight is not in both"),
    Fault("adds a tensor", TRAIN, edit(lambda c: c[ARRAYS].update(x=c[TOKEN]["mean"])), "arrays/x is not in both"),
    Fault("renames a tensor", TRAIN, edit(rename), "is not in both"),
    Fault("leaves out the projector", TRAIN, drop(SHARED), "it holds the records"),
    Fault("leaves out the subspace", TRAIN, drop(ARRAYS), "it holds the records"),
    Fault("sends an empty subspace", TRAIN, edit(lambda c: c[ARRAYS].clear()), "arrays/l.lora_A.weight is not in both"),
    Fault(
        "adds a record",
        TRAIN,
        edit(lambda c: c.update(more=ArrayRecord())),
        "it holds the records arrays, config, metrics, more",
    ),
    Fault(
        "sends scalars for weights", TRAIN, edit(lambda c: c.update({ARRAYS: MetricRecord()})), "its record arrays is a Metric"
    ),
    Fault("swaps subspace and projector", TRAIN, edit(swap), "is not in both"),
    Fault("transposes a tensor", TRAIN, tensor(ARRAYS, A, lambda a: a.T), "of shape (3, 2), not (2, 3); was it trained"),
    Fault(
        "trained another rank", TRAIN, tensor(ARRAYS, A, lambda a: np.tile(a, (2, 1))), "was it trained with another lora_rank?"
    ),
    Fault("flattens a tensor", TRAIN, tensor(ARRAYS, A, np.ravel), "of shape (6,), not (2, 3)"),
    Fault("sends one number for a tensor", TRAIN, tensor(ARRAYS, A, lambda a: a[:1, :1]), "of shape (1, 1), not (2, 3)"),
    Fault("sends float64", TRAIN, tensor(ARRAYS, A, lambda a: a.astype(np.float64)), "of dtype 'float64', not float32"),
    Fault("sends float16", TRAIN, tensor(ARRAYS, A, lambda a: a.astype(np.float16)), "of dtype 'float16', not float32"),
    Fault("sends int8", TRAIN, tensor(ARRAYS, A, lambda a: a.astype(np.int8)), "of dtype 'int8', not float32"),
    Fault("sends complex numbers", TRAIN, tensor(ARRAYS, A, lambda a: a.astype(np.complex64)), "of dtype 'complex64'"),
    Fault("sends big-endian numbers", TRAIN, tensor(ARRAYS, A, lambda a: a.astype(">f4")), "arrays/l.lora_A.weight is"),
    Fault(
        "names another dtype than its file holds",
        TRAIN,
        raw(ARRAYS, A, lambda a: {"data": header("<f8", (2, 3)) + bytes(48)}),
        "NumPy's format",
    ),
    Fault(
        "names another shape than its file holds",
        TRAIN,
        raw(ARRAYS, A, lambda a: {"data": header("<f4", (3, 2)) + bytes(24)}),
        "NumPy's format",
    ),
    Fault("names a shape of text", TRAIN, raw(ARRAYS, A, lambda a: {"shape": ("two", "three")}), "of shape ('two', 'three')"),
    Fault("moves a thousand times as far as the others", TRAIN, grow(1e3), "times the round's median"),
    Fault("moves as far as float32 goes", TRAIN, grow(1e35), "its update has norm"),
    Fault("moves farther than `fcit_max_update_norm`", TRAIN, grow(1e4), "(`fcit_max_update_norm`)"),
    # what it said before
    Fault(
        "has another token than before training",
        TRAIN,
        tensor(TOKEN, "mean", lambda a: a * 1.0001),
        "its identity token differs",
    ),
    Fault("has another token count than before", TRAIN, metrics(count=30), "its token count differs"),
    Fault("has another number of examples than before", TRAIN, metrics(examples=99), "its number of examples differs"),
    Fault("reports a loss of NaN", TRAIN, metrics(loss=float("nan")), "train-loss nan"),
    Fault("reports an infinite loss", TRAIN, metrics(loss=float("inf")), "train-loss inf"),
    Fault("reports a list of losses", TRAIN, metrics(loss=[0.5, 0.5]), "train-loss a list of 2"),
    Fault("reports no loss", TRAIN, drop(METRICS, LOSS), "it reports "),
]


def markdown() -> str:
    """The table of docs/guide/reliability.md."""
    phases = {BOTH: "query, update", QUERY: "query", TRAIN: "update"}
    rows = [f"| {number} | {fault.name} | {phases[fault.phases]} |" for number, fault in enumerate(TABLE, 1)]
    return "\n".join(["| | a client's reply ... | in answer to |", "| ---: | --- | --- |", *rows])
