"""One federated round as pure steps: configure, then fold.

The loop in one process and the aggregator stage that works on folders call the same steps, so they give the
same bits. Nothing here depends on the order in which replies arrive.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict

from ..adapters.lora import State
from ..continual.method import ContinualMethod
from ..knowledge.organizer import Assignment, Organizer
from .messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    WANTS,
    client_token,
    extras_of,
    part_of,
    to_record,
)
from .privacy import UpdatePrivacy
from .rules import RuleSet
from .state import ServerState


def configure(
    state: ServerState,
    rules: RuleSet,
    assignment: Assignment,
    fresh: State,
    configs: Mapping[int, ConfigRecord],
    method: ContinualMethod,
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
    """
    messages: dict[int, Message] = {}
    shared = to_record(state.shared)
    beside: dict[int, dict[str, State]] = {client: {} for client in assignment.subspace}
    if state.shared:
        for message in rules.configure(RuleSet.SHARED, state.round + 1, shared, sorted(assignment.subspace)):
            beside[message.metadata.dst_node_id] = extras_of(message)
    memory = {name: to_record(extra) for name, extra in method.sends(state).items()}
    wants = sorted({*method.wants(state.stage, state.round), *rules.wants})
    for k in sorted(set(assignment.subspace.values())):
        nodes = sorted(client for client, subspace in assignment.subspace.items() if subspace == k)
        start = fresh if k in assignment.opened else state.subspaces[k]
        for message in rules.configure(k, state.round + 1, to_record(start), nodes):
            node = message.metadata.dst_node_id
            config = ConfigRecord({**message.content[CONFIG], **configs[node], "subspace": k})
            if wants:
                config[WANTS] = wants
            content = RecordDict({ARRAYS: message.content[ARRAYS], CONFIG: config, **memory})
            if state.shared:
                content[SHARED] = shared
            for name, extra in extras_of(message).items():
                content[name] = to_record({**extra, **beside[node].get(name, {})})
            messages[node] = Message(content, dst_node_id=node, message_type=message.metadata.message_type)
    return dict(sorted(messages.items()))


def fold(
    state: ServerState,
    rules: RuleSet,
    organizer: Organizer,
    assignment: Assignment,
    fresh: State,
    requests: Mapping[int, Message],
    replies: Sequence[Message],
    tasks: Mapping[int, str],
    method: ContinualMethod,
    privacy: UpdatePrivacy | None = None,
) -> ServerState:
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
        privacy: Clips the updates, and makes a noisy one of them.
    """

    def aggregate(owner: int | str, name: str, members: Sequence[int]) -> State:
        parts = [part_of(by_client[client], requests[client], name, rules.wants) for client in members]
        if privacy is not None and privacy.noise_multiplier:
            parts = [privacy.release(parts, requests[members[0]], state.stage, state.round, owner)]
        return rules.aggregate(owner, state.round + 1, parts)

    replies = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
    by_client = {reply.metadata.src_node_id: reply for reply in replies}
    if privacy is not None:
        by_client = {client: privacy.clip(reply, requests[client]) for client, reply in by_client.items()}
    subspaces = [*state.subspaces, *(fresh for _ in assignment.opened)]
    names = [*(dict(row) for row in state.tasks), *({} for _ in assignment.opened)]
    by_subspace: dict[int, list[int]] = {}
    for client in by_client:
        k = assignment.subspace[client]
        by_subspace.setdefault(k, []).append(client)
        names[k][tasks[client]] = names[k].get(tasks[client], 0) + 1
    for k, members in by_subspace.items():
        subspaces[k] = aggregate(k, ARRAYS, members)
    shared = aggregate(RuleSet.SHARED, SHARED, list(by_client)) if state.shared and by_client else state.shared
    tokens = organizer.update(state.tokens, [client_token(reply) for reply in replies], assignment)
    after = dataclasses.replace(
        state, tokens=tokens, shared=shared, subspaces=subspaces, tasks=names, rules=rules.to_arrays()
    )
    measured = [extras_of(reply) for reply in replies]
    examples = [int(reply.content[METRICS][NUM_EXAMPLES]) for reply in replies]
    return dataclasses.replace(after, memory=method.remember(state, after, measured, examples))
