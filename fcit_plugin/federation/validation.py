"""Replies are not trusted: everything that is checked before one touches the server's state.

A reply either passes whole or its client is left out of the round, with a reason that a person understands. Nothing
is allocated or computed on a client's word: sizes come from what was sent out, headers are read before data.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord

from ..arguments import FcitArguments
from ..errors import FcitError
from ..knowledge.identity_tokens import ClientToken, WithoutToken
from ..knowledge.prototypes import MAX_KINDS, Prototypes
from ..knowledge.token_forms import FORMS, FULL, TokenForm
from .arrays import LazyArray, array_header, num_bytes_of, numbers_of, squared_distance
from .compression import SCALES, Compression, compression_of, restored
from .messages import (
    ARRAYS,
    CHOICE,
    CONFIG,
    KIND_COUNTS,
    KIND_MEANS,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    TOKEN,
    TOKEN_COUNT,
    TOKENS,
    WORK_KEYS,
    arrays_of,
    client_token,
    config_of,
    config_record,
    metrics_of,
    num_bytes,
    returned,
    weight_names,
)

#: Bounds that hold whatever the recipe says, far beyond anything honest: within them no sum, square or product that the
#: server forms leaves float32 and int64.
MAX_COUNT, MAX_TOKEN_NORM, MAX_NORM = 2**31 - 1, 1e6, 1e15
#: A reason comes from outside: one line of at most this many characters is kept of it.
MAX_REASON = 300
#: Bytes of an array's file header that the limit on a reply's size allows for.
_HEADER = 4096
#: What each record of a message must be.
_KINDS = {ARRAYS: ArrayRecord, SHARED: ArrayRecord, TOKEN: ArrayRecord, METRICS: MetricRecord, CONFIG: ConfigRecord}

Value = TypeVar("Value")


class Unusable(FcitError):
    """A reply cannot be used; the text says why, of the client as "it"."""


@dataclass(frozen=True)
class Bounds:
    """What a reply may hold at most.

    Attributes:
        dimension: D, numbers in an identity token.
        max_samples: Most examples of a client.
        max_norm: Largest L2 norm of an update: what came back minus what was sent, all tensors together.
        max_norm_ratio: Largest norm of an update, and of a token, relative to the median of the round's good replies;
            None for no such bound, as always with clipping. It takes three replies to tell which one is odd.
        kinds: Whether tokens tell the client's kinds of instructions.
        form: What is told of a token.
        min_records: A client with fewer sends no token.
        subspaces: How many there are, of which such a client picks its own.
    """

    dimension: int
    max_samples: int = MAX_COUNT
    max_norm: float = MAX_NORM
    max_norm_ratio: float | None = None
    kinds: bool = False
    form: TokenForm = FULL
    min_records: int = 1
    subspaces: int = 0

    @classmethod
    def from_args(
        cls, args: FcitArguments, dimension: int, kinds: bool, by_tokens: bool = False, subspaces: int = 0
    ) -> "Bounds":
        """The bounds that a recipe sets.

        Args:
            args: The fcit keys.
            dimension: D.
            kinds: Whether tokens tell the client's kinds of instructions.
            by_tokens: Whether tokens decide who trains what.
            subspaces: How many there are.
        """
        return cls(
            dimension,
            min(args.fcit_max_client_samples or MAX_COUNT, MAX_COUNT),
            min(args.fcit_max_update_norm or MAX_NORM, MAX_NORM),
            # what is clipped has to be judged by itself: the median would have one client decide about others
            args.fcit_max_norm_ratio if args.fcit_dp_clipping_norm is None else None,
            kinds,
            FORMS[args.fcit_identity_form],
            args.fcit_identity_min_records if by_tokens else 1,
            subspaces,
        )


def judge_tokens(
    requests: Mapping[int, Message], replies: Iterable[Message], bounds: Bounds
) -> tuple[dict[int, ClientToken | WithoutToken], dict[int, str]]:
    """Judge the identity tokens in answers to queries, or in updates that came without a query.

    Args:
        requests: What was sent, by client.
        replies: What came back, in any order.
        bounds: What a reply may hold at most.

    Returns:
        The tokens of the good replies, and the reasons for all others; both by client, ascending.
    """

    def judge(request: Message, reply: Message) -> ClientToken | WithoutToken:
        is_query = request.metadata.message_type == MessageType.QUERY
        if bounds.min_records > 1 and not _tells_token(reply):
            names = {CHOICE} if TOKENS in request.content or not is_query else set()
            return _read_few(reply, bounds, names | (set() if is_query else {LOSS}))
        rest = set() if is_query else {ARRAYS, SHARED, *reply.content.array_records}
        _check_records(reply, {TOKEN, METRICS, CONFIG} | (rest & set(reply.content)))
        return _read_token(reply, bounds, {NUM_EXAMPLES, TOKEN_COUNT} | (set() if is_query else {LOSS}))

    good, dropped = _sort_out(requests, replies, judge)
    norms = {client: float(np.linalg.norm(token.mean)) for client, token in good.items() if isinstance(token, ClientToken)}
    return _without_odd_ones(good, dropped, norms, bounds, "identity token")


def judge_updates(
    requests: Mapping[int, Message],
    replies: Iterable[Message],
    tokens: Mapping[int, ClientToken | WithoutToken],
    bounds: Bounds,
) -> tuple[dict[int, Message], dict[int, str]]:
    """Judge trained updates.

    Args:
        requests: What was sent, by client.
        replies: What came back, in any order.
        tokens: The identity tokens that the clients named before, or what they told in their place, by client.
        bounds: What a reply may hold at most.

    Returns:
        The good replies, with weights where compressed changes came (:mod:`.compression`), and the reasons for all others; both
        by client, ascending.
    """
    norms: dict[int, float] = {}

    def judge(request: Message, reply: Message) -> Message:
        client = reply.metadata.src_node_id
        names, wants, compression = weight_names(request), config_of(request).wants, compression_of(request)
        scales = {SCALES} if compression is not None and compression.scaled else set()
        told = tokens[client]
        _check_records(
            reply, scales | ({TOKEN} if isinstance(told, ClientToken) else set()) | {METRICS, CONFIG, *names, *wants}
        )
        _check_size(reply, request, bounds)
        if isinstance(told, ClientToken):
            _check_same(_read_token(reply, bounds, {NUM_EXAMPLES, TOKEN_COUNT, LOSS}), told)
        elif (now := _read_few(reply, bounds, {CHOICE, LOSS})) != told:
            raise Unusable(f"it has picked subspace {told.subspace} as one of {told.num_examples} examples, and says {now} now")
        if compression is not None:
            _check_compressed(names, request, reply, compression)
            reply = restored(reply, request, compression)
        norms[client] = math.sqrt(sum(_squared_change(name, request, reply) for name in names))
        for name in wants:
            _check_extra(name, request, reply)
        if norms[client] > bounds.max_norm:
            raise Unusable(f"its update has norm {norms[client]:.4g}, over {bounds.max_norm:g} (`fcit_max_update_norm`)")
        return reply

    good, dropped = _sort_out(requests, replies, judge)
    return _without_odd_ones(good, dropped, norms, bounds, "update")


def _without_odd_ones(
    good: dict[int, Value], dropped: dict[int, str], norms: Mapping[int, float], bounds: Bounds, what: str
) -> tuple[dict[int, Value], dict[int, str]]:
    """Drop what is far larger than the others of the round."""
    judged = [client for client in good if client in norms]
    median = float(np.median([norms[client] for client in judged])) if len(judged) > 2 else 0.0
    if bounds.max_norm_ratio is None or median == 0:
        return good, dropped
    for client in [client for client in judged if norms[client] > bounds.max_norm_ratio * median]:
        del good[client]
        dropped[client] = (
            f"its {what} has norm {norms[client]:.4g}, over {bounds.max_norm_ratio:g} times the round's median "
            f"of {median:.4g} (`fcit_max_norm_ratio`)"
        )
    return good, dict(sorted(dropped.items()))


def _tells_token(reply: Message) -> bool:
    scalars = reply.content.get(METRICS)
    return TOKEN in reply.content or (isinstance(scalars, MetricRecord) and TOKEN_COUNT in scalars)


def waiting(token: WithoutToken | ClientToken, bounds: Bounds) -> str:
    """Why a client without a token takes no part in a round, of the client as "it"."""
    return (
        f"it waits, for it has {token.num_examples} records, fewer than {bounds.min_records} (`fcit_identity_min_records`), "
        "and no subspace is its own yet"
    )


def _read_few(reply: Message, bounds: Bounds, names: set[str]) -> WithoutToken:
    """What a client without a token tells: how many records it has, and the subspace that it has picked if it was to."""
    _check_records(reply, {METRICS, CONFIG} | (set(reply.content) - {TOKENS} if LOSS in names else set()))
    scalars = metrics_of(reply)
    _check_scalars(scalars, {NUM_EXAMPLES, *names})
    count = _read_count(scalars, NUM_EXAMPLES, bounds)
    if count >= bounds.min_records:
        raise Unusable(
            f"it sends no identity token of its {count} records, and only those with fewer than {bounds.min_records} "
            "(`fcit_identity_min_records`) send none"
        )
    if CHOICE in names:
        chosen = scalars[CHOICE]
        if not isinstance(chosen, int) or not -1 <= chosen < bounds.subspaces:
            raise Unusable(f"it has picked subspace {_short(chosen)} of {bounds.subspaces}")
        if chosen == -1:
            raise Unusable(waiting(WithoutToken(reply.metadata.src_node_id, count), bounds))
    found = client_token(reply)
    assert isinstance(found, WithoutToken)  # there is no token in it
    return found


def _check_scalars(scalars: MetricRecord, names: set[str]) -> None:
    if set(scalars) != names:
        raise Unusable(f"it reports {_listed(scalars)}, not {_listed(names)}")
    loss = scalars[LOSS] if LOSS in names else 0.0
    if not isinstance(loss, (int, float)) or not math.isfinite(loss):
        raise Unusable(f"it reports {LOSS} {_short(loss)}, which is not a finite number")


def _read_token(reply: Message, bounds: Bounds, names: set[str]) -> ClientToken:
    """The identity token and the counts in a reply whose records are of the right kind."""
    scalars, form = metrics_of(reply), bounds.form
    _check_scalars(scalars, names)
    _read_count(scalars, NUM_EXAMPLES, bounds)
    count = _read_count(scalars, TOKEN_COUNT, bounds)
    record = arrays_of(reply, TOKEN)
    expected = {form.key, KIND_MEANS, KIND_COUNTS} if bounds.kinds else {form.key}
    if set(record) != expected:
        raise Unusable(f"its token record holds {_listed(record)}, not {_listed(expected)} (`fcit_identity_form: {form.name}`)")
    mean = _read(record[form.key], (bounds.dimension,), "its identity token")
    if not form.is_told(mean):
        raise Unusable(f"its identity token holds other numbers than 1 and -1 (`fcit_identity_form: {form.name}`)")
    norm = np.linalg.norm(mean.astype(np.float64))
    if not 0 < norm <= MAX_TOKEN_NORM:
        raise Unusable(f"its identity token has norm {norm:.4g}, not over 0 and up to {MAX_TOKEN_NORM:g}")
    if bounds.kinds:
        _check_kinds(record, bounds, count)
    found = client_token(reply)
    assert isinstance(found, ClientToken)  # its record was checked
    return found


def _read_count(scalars: MetricRecord, name: str, bounds: Bounds) -> int:
    count = scalars[name]
    if not isinstance(count, int) or not 1 <= count <= bounds.max_samples:
        raise Unusable(
            f"it reports {name} {_short(count)}; it must be a whole number from 1 to {bounds.max_samples} "
            "(`fcit_max_client_samples`)"
        )
    return count


def _check_kinds(token: ArrayRecord, bounds: Bounds, count: int) -> None:
    """Are the kinds of instructions of sound form, and no more of them than there are instructions?"""
    number = token[KIND_COUNTS].shape[0] if len(token[KIND_COUNTS].shape) == 1 else 0
    if not 1 <= number <= MAX_KINDS:
        raise Unusable(f"it tells {_short(tuple(token[KIND_COUNTS].shape))} kinds of instructions, not 1 to {MAX_KINDS}")
    means = _read(token[KIND_MEANS], (number, bounds.dimension), "its kinds of instructions")
    if not bounds.form.is_told(means):
        raise Unusable(f"its kinds of instructions hold other numbers than 1 and -1 (`fcit_identity_form: {bounds.form.name}`)")
    norms = np.linalg.norm(means.astype(np.float64), axis=1)
    if not ((norms > 0) & (norms <= MAX_TOKEN_NORM)).all():
        raise Unusable(f"one of its kinds of instructions has a norm not over 0 and up to {MAX_TOKEN_NORM:g}")
    counts = _numbers(token[KIND_COUNTS], (number,), "the counts of its kinds of instructions", "int64")
    if counts.min() < 1 or sum(counts.tolist()) > count:  # as Python adds: not even sums that int64 cannot hold
        raise Unusable(f"its kinds of instructions have {_short(counts.tolist())} of its {count} instructions")


def _sort_out(
    requests: Mapping[int, Message], replies: Iterable[Message], judge: Callable[[Message, Message], Value]
) -> tuple[dict[int, Value], dict[int, str]]:
    """What ``judge`` makes of each good reply, and the reason for each client without one."""
    by_sender: dict[int, list[Message]] = {}
    for reply in replies:
        by_sender.setdefault(reply.metadata.src_node_id, []).append(reply)
    good: dict[int, Value] = {}
    dropped: dict[int, str] = {}
    for client in sorted(requests.keys() | by_sender.keys()):
        received = by_sender.get(client, [])
        try:
            if client not in requests:
                raise Unusable("it replied without being asked")
            if not received:
                raise Unusable("it gave no reply")
            if len(received) > 1:  # which of them is meant cannot depend on the order of arrival
                raise Unusable(f"it appears twice in the round, with {len(received)} replies")
            _check_envelope(requests[client], received[0])
            good[client] = judge(requests[client], received[0])
        except Unusable as error:
            dropped[client] = one_line(str(error))
    return good, dropped


def one_line(text: str) -> str:
    """A text from outside as one line of bounded length that is safe to print."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 3] + "..."


def _check_envelope(request: Message, reply: Message) -> None:
    """Is it an answer to this request at all?"""
    if reply.has_error():
        raise Unusable(reply.error.reason or f"it failed with code {reply.error.code}")
    if reply.metadata.message_type != request.metadata.message_type:
        raise Unusable(f"it answers {reply.metadata.message_type!r} to {request.metadata.message_type!r}")
    if not isinstance(reply.content.get(CONFIG), ConfigRecord):
        raise Unusable("it does not say which request it answers")
    sent, said = config_record(request), config_record(reply)
    if set(said) != set(WORK_KEYS):
        raise Unusable(f"it does not say which request it answers: {_listed(said)} instead of {_listed(WORK_KEYS)}")
    for key in WORK_KEYS:
        if (type(said[key]), said[key]) != (type(sent[key]), sent[key]):
            raise Unusable(f"it is of {key} {_short(said[key])}, not {_short(sent[key])}")


def _check_records(reply: Message, names: set[str]) -> None:
    """Are just the right records there, each of its kind?"""
    if set(reply.content) != names:
        raise Unusable(f"it holds the records {_listed(reply.content)}, not {_listed(names)}")
    for name in names:
        kind = _KINDS.get(name, ArrayRecord)
        if not isinstance(reply.content[name], kind):
            raise Unusable(f"its record {name} is a {type(reply.content[name]).__name__}, not {kind.__name__}")


def _check_size(reply: Message, request: Message, bounds: Bounds) -> None:
    """Is it no larger than what is to come back, and a token?"""
    names = weight_names(request)
    sent = {key: num_bytes_of(array) for name in names for key, array in arrays_of(request, name).items()}
    compression = compression_of(request)
    width = 4 if compression is None else compression.width  # a tensor's scale fits into what is allowed for its header
    most = sum(sent[key] * width // 4 + _HEADER for name in names for key in returned(request, name))
    most += sum(sent[key] + _HEADER for name in config_of(request).wants for key in returned(request, name))
    most += 4 * bounds.dimension + _HEADER
    most += MAX_KINDS * (4 * bounds.dimension + 8) + 2 * _HEADER if bounds.kinds else 0
    if num_bytes(reply) > most:
        raise Unusable(f"it has {num_bytes(reply)} bytes of arrays where at most {most} fit")


def _check_same(token: ClientToken, named: ClientToken) -> None:
    """Is the token the one that the assignment was made by?"""
    for what, is_same in (
        ("identity token", token.mean.tobytes() == named.mean.tobytes()),
        ("kinds of instructions", _bytes(token.kinds) == _bytes(named.kinds)),
        ("token count", token.count == named.count),
        ("number of examples", token.num_examples == named.num_examples),
    ):
        if not is_same:
            raise Unusable(f"its {what} differs from the one that it named before training")


def _check_compressed(names: Iterable[str], request: Message, reply: Message, compression: Compression) -> None:
    """Have compressed changes the form of what was sent? Their numbers are judged as the weights that they make."""
    scales = arrays_of(reply, SCALES) if compression.scaled else {}
    if compression.scaled and set(scales) != set(names):
        raise Unusable(f"its record {SCALES} holds {_listed(scales)}, not {_listed(names)}")
    for name in names:
        _check_keys(name, request, reply)
        keys, sent, got = returned(request, name), arrays_of(request, name), arrays_of(reply, name)
        for key in keys:
            _numbers(got[key], tuple(sent[key].shape), f"{name}/{key}", compression.dtype)
        if compression.scaled:
            _numbers(scales[name], (len(keys),), f"{SCALES}/{name}")


def _squared_change(name: str, request: Message, reply: Message) -> float:
    """Squared norm of what came back minus what was sent, once keys, shapes, dtypes and numbers are right."""
    sent, got = arrays_of(request, name), arrays_of(reply, name)
    _check_keys(name, request, reply)
    total = 0.0
    for key in returned(request, name):
        before, what = numbers_of(sent[key]), f"{name}/{key}"
        after = _numbers(got[key], before.shape, what)
        change = squared_distance(after, before)
        if not math.isfinite(change):  # only then is it worth another look at all numbers
            _check_finite(after, what)
        total += change
    return total


def _check_extra(name: str, request: Message, reply: Message) -> None:
    """Has a record that was wanted the keys and the shapes of the weights, and finite numbers?"""
    sent = {key: array for part in weight_names(request) for key, array in arrays_of(request, part).items()}
    got = arrays_of(reply, name)
    _check_keys(name, request, reply)
    for key in got:
        _read(got[key], tuple(sent[key].shape), f"{name}/{key}")


def _check_keys(name: str, request: Message, reply: Message) -> None:
    wants, got = set(returned(request, name)), arrays_of(reply, name).keys()
    for key in sorted(wants ^ got):
        if key in arrays_of(request) and key not in wants:
            raise Unusable(f"it returns {name}/{key}, which was not to be trained")
        raise Unusable(f"it does not fit what was sent: {name}/{key} is not in both")


def _bytes(kinds: Prototypes | None) -> tuple[bytes, ...]:
    return () if kinds is None else (kinds.means.tobytes(), kinds.counts.tobytes())


def _read(array: Array, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The finite float32 numbers of an array of the right form."""
    values = _numbers(array, shape, what)
    _check_finite(values, what)
    return values


def _check_finite(values: np.ndarray, what: str) -> None:
    if not np.isfinite(values).all():
        raise Unusable(f"{what} is not finite; if its training diverged, lower the learning rate")


def _numbers(array: Array, shape: tuple[int, ...], what: str, dtype: str = "float32") -> np.ndarray:
    """The numbers of an array, once its file header is one that NumPy writes for what was expected."""
    if array.dtype != dtype:
        raise Unusable(f"{what} is of dtype {_short(array.dtype)}, not {dtype}")
    if tuple(array.shape) != shape:
        other = "; was it trained with another lora_rank?" if len(array.shape) == len(shape) == 2 else ""
        raise Unusable(f"{what} is of shape {_short(tuple(array.shape))}, not {shape}{other}")
    if isinstance(array, LazyArray):  # of a file whose form is checked when it is read
        numbers = array.numpy()
        if numbers.dtype != dtype or numbers.shape != shape:
            raise Unusable(f"{what} is of another form than its file said")
        return numbers
    # comparing needs no parser that a client could mislead
    headers = [array_header(shape, dtype, fortran) for fortran in (False, True)]
    data = array.data
    if array.stype != "numpy.ndarray" or not data.startswith(tuple(headers)):
        raise Unusable(f"{what} is no array of that shape in NumPy's format")
    length = len(headers[0]) + np.dtype(dtype).itemsize * math.prod(shape)
    if len(data) != length:
        raise Unusable(f"{what} has {len(data)} bytes, not {length}")
    return numbers_of(array)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"


def _short(value: object) -> str:
    """A value as text, without writing out the whole of something huge."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, (str, bytes)) and len(value) > 40:
        return f"{value[:40]!r}..."
    return repr(value)
