"""Replies are not trusted: everything that is checked before one touches the server's state.

A reply either passes whole or its client is left out of the round, with a reason that a person understands. Nothing
is allocated or computed on a client's word: sizes come from what was sent out, headers are read before data
(:mod:`.reply_parts`).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType

from ..continual.record_limits import RecordLimits
from ..knowledge.identity_tokens import ClientToken, WithoutToken
from ..knowledge.prototypes import MAX_KINDS, Prototypes
from .arrays import numbers_of, squared_distance, squared_norm
from .compression import SCALES, Compression, compression_of, restored
from .messages import (
    ARRAYS,
    CHOICE,
    CONFIG,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    TOKEN,
    TOKEN_COUNT,
    TOKENS,
    WORK_KEYS,
    arrays_of,
    config_of,
    config_record,
    num_bytes,
    returned,
    weight_names,
)
from .reply_limits import HEADER, bytes_of_weights
from .reply_parts import Unusable, check_finite, check_records, listed, numbers_in, one_line, read_array, short
from .token_checks import MAX_EXTRA_NORM, USUAL_EXTRA_NORM, Bounds, read_few, read_token, tells_token

Value = TypeVar("Value")


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
        if bounds.min_records > 1 and not tells_token(reply):
            names = {CHOICE} if TOKENS in request.content or not is_query else set()
            return read_few(reply, bounds, names | (set() if is_query else {LOSS}))
        rest = set() if is_query else {ARRAYS, SHARED, *reply.content.array_records}
        check_records(reply, {TOKEN, METRICS, CONFIG} | (rest & set(reply.content)))
        return read_token(reply, bounds, {NUM_EXAMPLES, TOKEN_COUNT} | (set() if is_query else {LOSS}))

    good, dropped = sort_out(requests, replies, judge)
    norms = {client: float(np.linalg.norm(token.mean)) for client, token in good.items() if isinstance(token, ClientToken)}
    return _without_odd_ones(good, dropped, norms, _Odd(bounds.max_norm_ratio), "identity token")


def judge_updates(
    requests: Mapping[int, Message],
    replies: Iterable[Message],
    tokens: Mapping[int, ClientToken | WithoutToken],
    bounds: Bounds,
    norms: dict[str, dict[int, float]] | None = None,
) -> tuple[dict[int, Message], dict[int, str]]:
    """Judge trained updates.

    Args:
        requests: What was sent, by client.
        replies: What came back, in any order.
        tokens: The identity tokens that the clients named before, or what they told in their place, by client.
        bounds: What a reply may hold at most.
        norms: Those of the round's replies judged before, with which these are compared, too, by client under the name of the
            record beside the weights, or for updates :data:`ARRAYS`; those of the good ones are added. None: there were none.

    Returns:
        The good replies, with weights where compressed changes came (:mod:`.compression`), and the reasons for all others; both
        by client, ascending.
    """
    found: dict[str, dict[int, float]] = {}

    def judge(request: Message, reply: Message) -> Message:
        client = reply.metadata.src_node_id
        names, wants, compression = weight_names(request), config_of(request).wants, compression_of(request)
        scales = {SCALES} if compression is not None and compression.scaled else set()
        told = tokens[client]
        check_records(reply, scales | ({TOKEN} if isinstance(told, ClientToken) else set()) | {METRICS, CONFIG, *names, *wants})
        _check_size(reply, request, bounds)
        if isinstance(told, ClientToken):
            _check_same(read_token(reply, bounds, {NUM_EXAMPLES, TOKEN_COUNT, LOSS}), told)
        elif (now := read_few(reply, bounds, {CHOICE, LOSS})) != told:
            raise Unusable(f"it has picked subspace {told.subspace} as one of {told.num_examples} examples, and says {now} now")
        if compression is not None:
            _check_compressed(names, request, reply, compression)
            reply = restored(reply, request, compression)
        norm = math.sqrt(sum(_squared_change(name, request, reply) for name in names))
        if norm > bounds.max_norm:
            raise Unusable(f"its update has norm {norm:.4g}, over {bounds.max_norm:g} (`fcit_max_update_norm`)")
        found.setdefault(ARRAYS, {})[client] = norm
        for name in wants:
            found.setdefault(name, {})[client] = _norm_of_extra(name, request, reply, _limits(name, bounds))
        return reply

    good, dropped = sort_out(requests, replies, judge)
    before = {} if norms is None else norms
    for name, those in found.items():
        what, earlier = "update" if name == ARRAYS else name, [*before.get(name, {}).values()]
        good, dropped = _without_odd_ones(good, dropped, those, _odd(name, bounds), what, earlier)
    for name, those in found.items():
        before.setdefault(name, {}).update({client: those[client] for client in good})
    return good, dropped


@dataclass(frozen=True)
class _Odd:
    """What a norm is odd by: being over a power of a ratio times the round's median, or times what is usual if that is more.

    Attributes:
        ratio: The ratio; None: no norm is odd.
        power: Its power.
        usual: A norm that is not odd whatever the median; with 0 a median of 0 says nothing.
    """

    ratio: float | None
    power: int = 1
    usual: float = 0.0


def _limits(name: str, bounds: Bounds) -> RecordLimits:
    return bounds.limits.get(name, RecordLimits())


def _odd(name: str, bounds: Bounds) -> _Odd:
    """By what the norm of an update (:data:`ARRAYS`), or of a record beside it, is odd."""
    if name == ARRAYS:
        return _Odd(bounds.max_norm_ratio)
    power = _limits(name, bounds).power
    return _Odd(None) if power is None else _Odd(bounds.max_norm_ratio, power, USUAL_EXTRA_NORM)


def _without_odd_ones(
    good: dict[int, Value],
    dropped: dict[int, str],
    norms: Mapping[int, float],
    odd: _Odd,
    what: str,
    earlier: Sequence[float] = (),
) -> tuple[dict[int, Value], dict[int, str]]:
    """Drop what is far larger than the others of the round."""
    judged = [client for client in good if client in norms]
    others = [*earlier, *(norms[client] for client in judged)]
    if odd.ratio is None or len(others) < 3:
        return good, dropped
    median = float(np.median(others))
    if (level := max(median, odd.usual)) == 0:
        return good, dropped
    most = math.prod([odd.ratio] * odd.power)  # `**` would raise where it leaves float64
    of_what = f"the round's median of {median:.4g}" + ("" if level == median else f", for which {level:g} counts,")
    key = "`fcit_max_norm_ratio`" + (f" to the power of {odd.power}" if odd.power > 1 else "")
    for client in [client for client in judged if norms[client] > most * level]:
        del good[client]
        dropped[client] = f"its {what} has norm {norms[client]:.4g}, over {most:g} times {of_what} ({key})"
    return good, dict(sorted(dropped.items()))


def sort_out(
    requests: Mapping[int, Message], replies: Iterable[Message], judge: Callable[[Message, Message], Value]
) -> tuple[dict[int, Value], dict[int, str]]:
    """What ``judge`` makes of each good reply, and the reason for each client without one; both by client, ascending.

    Args:
        requests: What was sent, by client.
        replies: What came back, in any order.
        judge: Takes a request and its reply, and raises :class:`.reply_parts.Unusable` where that is not good.
    """
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
        raise Unusable(f"it does not say which request it answers: {listed(said)} instead of {listed(WORK_KEYS)}")
    for key in WORK_KEYS:
        if (type(said[key]), said[key]) != (type(sent[key]), sent[key]):
            raise Unusable(f"it is of {key} {short(said[key])}, not {short(sent[key])}")


def _check_size(reply: Message, request: Message, bounds: Bounds) -> None:
    """Is it no larger than what is to come back, and a token?"""
    most = bytes_of_weights(request) + 4 * bounds.dimension + HEADER
    most += MAX_KINDS * (4 * bounds.dimension + 8) + 2 * HEADER if bounds.kinds else 0
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
        raise Unusable(f"its record {SCALES} holds {listed(scales)}, not {listed(names)}")
    for name in names:
        _check_keys(name, request, reply)
        keys, sent, got = returned(request, name), arrays_of(request, name), arrays_of(reply, name)
        for key in keys:
            numbers_in(got[key], tuple(sent[key].shape), f"{name}/{key}", compression.dtype)
        if compression.scaled:
            numbers_in(scales[name], (len(keys),), f"{SCALES}/{name}")


def _squared_change(name: str, request: Message, reply: Message) -> float:
    """Squared norm of what came back minus what was sent, once keys, shapes, dtypes and numbers are right."""
    sent, got = arrays_of(request, name), arrays_of(reply, name)
    _check_keys(name, request, reply)
    total = 0.0
    for key in returned(request, name):
        before, what = numbers_of(sent[key]), f"{name}/{key}"
        after = numbers_in(got[key], before.shape, what)
        change = squared_distance(after, before)
        if not math.isfinite(change):  # only then is it worth another look at all numbers
            check_finite(after, what)
        total += change
    return total


def _norm_of_extra(name: str, request: Message, reply: Message, limits: RecordLimits) -> float:
    """The norm of a record that was wanted, once its keys and shapes are those of the weights, and its numbers in order."""
    sent = {key: array for part in weight_names(request) for key, array in arrays_of(request, part).items()}
    got, total = arrays_of(reply, name), 0.0
    _check_keys(name, request, reply)
    for key in got:
        values = read_array(got[key], tuple(sent[key].shape), f"{name}/{key}")
        if limits.least is not None and values.size and values.min() < limits.least:
            raise Unusable(f"{name}/{key} has the number {values.min():.4g}, and none of {name} is below {limits.least:g}")
        total += squared_norm(values)
    norm = math.sqrt(total)
    if norm > MAX_EXTRA_NORM:
        raise Unusable(
            f"its {name} has norm {norm:.4g}, over {MAX_EXTRA_NORM:g}; if its training diverged, lower the learning rate"
        )
    return norm


def _check_keys(name: str, request: Message, reply: Message) -> None:
    wants, got = set(returned(request, name)), arrays_of(reply, name).keys()
    for key in sorted(wants ^ got):
        if key in arrays_of(request) and key not in wants:
            raise Unusable(f"it returns {name}/{key}, which was not to be trained")
        raise Unusable(f"it does not fit what was sent: {name}/{key} is not in both")


def _bytes(kinds: Prototypes | None) -> tuple[bytes, ...]:
    return () if kinds is None else (kinds.means.tobytes(), kinds.counts.tobytes())
