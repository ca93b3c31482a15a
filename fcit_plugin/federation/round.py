"""One federated round as pure steps: configure, then fold.

The loop in one process and the aggregator stage that works on folders call the same steps, so they give the
same bits. Nothing here depends on the order in which replies arrive.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from ..adapters.aggregation import LoraAggregation, Member, product_error
from ..adapters.base_change import add_pairs
from ..adapters.lora import BOTH, Tensors, select_factors
from ..continual.method import ContinualMethod
from ..knowledge.organizer import Assignment, Organizer
from ..state.server_state import ServerState
from .messages import (
    ARRAYS,
    BASE,
    COMPRESSION,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    OF_TRAINED,
    OPENS,
    SHARED,
    TRAINS,
    WANTS,
    client_token,
    extras_of,
    part_of,
    record_of,
    to_record,
    to_state,
)
from .privacy import UpdatePrivacy
from .rules import RuleSet


def configure(
    state: ServerState,
    rules: RuleSet,
    assignment: Assignment,
    fresh: Tensors,
    configs: Mapping[int, ConfigRecord],
    method: ContinualMethod,
    aggregation: LoraAggregation,
) -> dict[int, Message]:
    """The message to each client: its subspace's weights, the shared trainables, and its own configuration.

    And what the continual method and the server rule send beside the weights.

    Args:
        state: The state before the round.
        rules: The server rules; each sees the nodes of its own subspace.
        assignment: Who trains which subspace.
        fresh: The initialisation that new subspaces begin from.
        configs: For each client what it has to know.
        method: The continual method.
        aggregation: Knows which factors are trained. A server rule sees these alone.
    """
    messages: dict[int, Message] = {}
    shared = to_record(state.shared)
    beside: dict[int, dict[str, Tensors]] = {client: {} for client in assignment.subspace}
    if state.shared:
        for message in rules.configure(RuleSet.SHARED, state.round + 1, shared, sorted(assignment.subspace)):
            beside[message.metadata.dst_node_id] = extras_of(message)
    memory = {name: to_record(extra) for name, extra in method.sends(state).items()}
    if state.base:
        memory[BASE] = to_record(state.base)
    wants = sorted({*method.wants(state.stage, state.round), *rules.wants})
    for k in sorted(set(assignment.subspace.values())):
        nodes = sorted(client for client, subspace in assignment.subspace.items() if subspace == k)
        start = fresh if k in assignment.opened else state.subspaces[k]
        trains, arrays = aggregation.trains(state.rounds[k]), to_record(start)
        more = {WANTS: wants} if wants else {}
        if trains != BOTH:
            more |= {TRAINS: trains, **({OF_TRAINED: sorted(rules.wants)} if rules.wants else {})}
        for message in rules.configure(_owner(k, trains), state.round + 1, to_record(select_factors(start, trains)), nodes):
            node = message.metadata.dst_node_id
            config = ConfigRecord({**message.content[CONFIG], **configs[node], "subspace": k, **more})
            if COMPRESSION in config and k in assignment.opened:
                config[OPENS] = True
            content = RecordDict({ARRAYS: record_of({**arrays, **message.content[ARRAYS]}), CONFIG: config, **memory})
            if state.shared:
                content[SHARED] = shared
            for name, extra in extras_of(message).items():
                content[name] = to_record({**extra, **beside[node].get(name, {})})
            messages[node] = Message(content, dst_node_id=node, message_type=message.metadata.message_type)
    return dict(sorted(messages.items()))


def _owner(k: int, trains: str) -> int | str:
    """Whose rule it is: A and B that are trained in turn have one each, what it remembers is of their numbers."""
    return k if trains == BOTH else f"{k}.{trains}"


class _Factors(Mapping):
    """A client's factors, each read when it is asked for: what it returned, and of the rest what it began from."""

    def __init__(self, start: Tensors, returned: ArrayRecord) -> None:
        self._start, self._returned = start, returned

    def __getitem__(self, key: str) -> torch.Tensor:
        return to_state({key: self._returned[key]})[key] if key in self._returned else self._start[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._start)

    def __len__(self) -> int:
        return len(self._start)


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """What came of a round's replies.

    Attributes:
        state: The state with them in it.
        product_error: For each subspace that was trained the relative error of its product B A
            (:func:`.lora_aggregation.product_error`); empty where noise hides the clients, which this would tell of, and
            where a subspace does not act as that product.
    """

    state: ServerState
    product_error: dict[int, float | None]


def fold(
    state: ServerState,
    rules: RuleSet,
    organizer: Organizer,
    assignment: Assignment,
    fresh: Tensors,
    requests: Mapping[int, Message],
    replies: Sequence[Message],
    tasks: Mapping[int, str],
    method: ContinualMethod,
    aggregation: LoraAggregation,
    anew: Callable[[], Tensors],
    privacy: UpdatePrivacy | None = None,
) -> FoldResult:
    """Fold the replies into the state: each subspace over its own replies, the shared trainables over all.

    Args:
        state: The state before the round; it is not changed.
        rules: The server rules, configured for this round.
        organizer: Updates the identity tokens.
        assignment: Who trained which subspace.
        fresh: The initialisation that opened subspaces keep if nobody replied.
        requests: The messages sent, by client.
        replies: The replies, in any order, all good (:mod:`.validation`).
        tasks: For each client the name of its task, for the record.
        method: The continual method.
        aggregation: Makes a subspace of its clients' factors.
        anew: Draws factors for a subspace that begins anew after the round.
        privacy: Clips the updates, and makes a noisy one of them.
    """

    def aggregate(owner: int | str, name: str, members: Sequence[int], rule: int | str) -> Tensors:
        parts = [part_of(by_client[client], requests[client], name, rules.wants) for client in members]
        if hidden:
            parts = [privacy.release(parts, requests[members[0]], state.stage, state.round, owner)]
        return rules.aggregate(rule, state.round + 1, parts)

    def member(client: int, total: int, start: Tensors) -> Member:
        reply = by_client[client]
        return Member(reply.content[METRICS][NUM_EXAMPLES] / total, _Factors(start, reply.content[ARRAYS]))

    hidden = privacy is not None and privacy.noise_multiplier > 0
    replies = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
    by_client = {reply.metadata.src_node_id: reply for reply in replies}
    if privacy is not None:
        by_client = {client: privacy.clip(reply, requests[client]) for client, reply in by_client.items()}
    subspaces = [*state.subspaces, *(fresh for _ in assignment.opened)]
    names = [*(dict(row) for row in state.tasks), *({} for _ in assignment.opened)]
    rounds, errors, base = Counter(state.rounds), {}, state.base
    begin = anew() if aggregation.changes_base else fresh
    by_subspace: dict[int, list[int]] = {}
    for client in by_client:
        k = assignment.subspace[client]
        by_subspace.setdefault(k, []).append(client)
        names[k][tasks[client]] = names[k].get(tasks[client], 0) + 1
    for k, clients in by_subspace.items():
        start, trains = subspaces[k], aggregation.trains(rounds[k])
        averaged = {**start, **aggregate(k, ARRAYS, clients, _owner(k, trains))}
        total = sum(by_client[client].content[METRICS][NUM_EXAMPLES] for client in clients)
        members = [member(client, total, start) for client in clients]
        combined = aggregation.combine(start, averaged, members, begin)
        subspaces[k], base = combined.subspace, add_pairs(base, combined.base)
        rounds[k] += 1
        if not hidden and method.acts_as_product:
            errors[k] = product_error(combined, members)
    shared = state.shared
    if shared and by_client:
        shared = aggregate(RuleSet.SHARED, SHARED, list(by_client), RuleSet.SHARED)
    tokens = organizer.update(state.tokens, [client_token(reply) for reply in replies], assignment)
    projectors = []
    if method.keeps_projectors and shared:
        known = state.projectors or [state.shared] * len(state.subspaces)  # none yet: as if nothing had moved since
        projectors = [*known, *(shared for _ in assignment.opened)]
        for k in by_subspace:
            projectors[k] = shared
    changed = {"tokens": tokens, "shared": shared, "subspaces": subspaces, "tasks": names, "rounds": rounds}
    changed |= {"projectors": projectors}
    after = dataclasses.replace(state, **changed, base=base, rules=rules.to_arrays())
    measured = [extras_of(reply) for reply in replies]
    examples = [int(reply.content[METRICS][NUM_EXAMPLES]) for reply in replies]
    return FoldResult(dataclasses.replace(after, method_state=method.remember(state, after, measured, examples)), errors)
