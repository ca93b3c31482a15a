"""One federated round: requests that go out, and replies that are folded into the next state.

The loop in one process and the aggregator stage that works on folders use the same object, so they give the same bits.
Nothing here depends on the order in which replies arrive.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from ..adapters.aggregation import Member, product_error
from ..adapters.base_change import add_pairs
from ..adapters.lora import BOTH, Tensors, select_factors
from ..knowledge.identity_tokens import ClientToken, WithoutToken
from ..knowledge.organizer import Assignment
from ..knowledge.own_cosines import added, bounded
from ..state.server_state import ServerState, alone_after
from .arrays import numbers_of
from .messages import (
    ARRAYS,
    BASE,
    CONFIG,
    METRICS,
    NUM_EXAMPLES,
    SHARED,
    ClientConfig,
    arrays_of,
    client_token,
    config_record,
    extras_of,
    num_examples,
    part_of,
    record_of,
    to_record,
    to_state,
)
from .privacy import UpdatePrivacy
from .program import Program
from .relay import of_chain
from .rules import RuleSet
from .secure_messages import split_sum
from .secure_sum.server import OpenedSum


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """What came of a round's replies.

    Attributes:
        state: The state with them in it; it still names the round.
        product_error: For each subspace that was trained the relative error of its product B A
            (:func:`..adapters.aggregation.product_error`); empty where noise hides the clients, which this would tell of,
            and where a subspace does not act as that product, or its factors are of many layers (fused experts).
    """

    state: ServerState
    product_error: dict[int, float | None]


class Round:
    """One round of a program, from an assignment of its clients on.

    Attributes:
        requests: The message to each client, ascending: its subspace's weights, the shared trainables, its own
            configuration, and what the continual method and the server rule send beside the weights.

    Args:
        program: Scenario and method.
        state: The state before the round; it is not changed.
        assignment: Who trains which subspace.
        work: What the clients have to know, each with its task; clients that are not assigned are passed over.
    """

    def __init__(self, program: Program, state: ServerState, assignment: Assignment, work: Mapping[int, ClientConfig]) -> None:
        self._program, self._state, self._assignment, self._work = program, state, assignment, work
        self._rules = program.rules(state)
        self._fresh = program.fresh(state.stage)
        self.requests = self._configure()

    @cached_property
    def _privacy(self) -> UpdatePrivacy | None:
        """What is done to updates; asked for where they are folded, for no client has the server's secret."""
        return self._program.privacy

    @property
    def _hides(self) -> bool:
        return self._privacy is not None and self._privacy.noise_multiplier > 0

    def _configure(self) -> dict[int, Message]:
        """The requests. A server rule sees the nodes of its own subspace alone, and of that the factors that are trained."""
        state, rules, assignment, method = self._state, self._rules, self._assignment, self._program.method
        messages: dict[int, Message] = {}
        shared = to_record(state.shared)
        beside: dict[int, dict[str, Tensors]] = {client: {} for client in assignment.subspace}
        if state.shared:
            for message in rules.configure(RuleSet.SHARED, state.round + 1, shared, sorted(assignment.subspace)):
                beside[message.metadata.dst_node_id] = extras_of(message)
        of_method = {name: to_record(extra) for name, extra in method.sends(state).items()}
        if state.base:
            of_method[BASE] = to_record(state.base)
        wants = tuple(sorted({*method.wants(state.stage, state.round), *rules.wants}))
        for k in sorted(set(assignment.subspace.values())):
            nodes = sorted(client for client, subspace in assignment.subspace.items() if subspace == k)
            start = self._start(k)
            trains, arrays = self._trains(k), to_record(start)
            of_trained = () if trains == BOTH else tuple(sorted(rules.wants))
            trained = to_record(select_factors(start, trains))
            for message in rules.configure(_owner(k, trains), state.round + 1, trained, nodes):
                node = message.metadata.dst_node_id
                work = self._work[node]
                config = dataclasses.replace(
                    work,
                    subspace=k,
                    trains=trains,
                    wants=wants,
                    of_trained=of_trained,
                    opens=work.compression is not None and k in assignment.opened,
                    link=None if self._program.relays else self._program.piece(state.round),
                    of_rule=config_record(message),
                )
                weights = record_of({**arrays, **arrays_of(message)})
                content = RecordDict({ARRAYS: weights, CONFIG: config.to_record(), **of_method})
                if k < len(state.subspaces):
                    for name, extra in method.sends_to(state, k).items():
                        content[name] = to_record(extra)
                if state.shared:
                    content[SHARED] = to_record(self._shared_of(k)) if method.trains_projectors else shared
                for name, extra in extras_of(message).items():
                    content[name] = to_record({**extra, **beside[node].get(name, {})})
                messages[node] = Message(content, dst_node_id=node, message_type=message.metadata.message_type)
        return dict(sorted(messages.items()))

    def fold(self, replies: Sequence[Message]) -> FoldResult:
        """Fold replies into the state: each subspace over its own replies, the shared trainables over all.

        To be called once: what the server rules remember moves on with it.

        Args:
            replies: The replies, in any order, all good (:mod:`.validation`).
        """
        replies = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
        updates = {reply.metadata.src_node_id: self._clipped(reply) for reply in replies}
        clients = self._by_subspace(updates)
        trained = {k: self._counted(own) for k, own in clients.items()}
        counted = dict(sorted((client, update) for own in trained.values() for client, update in own.items()))
        return self._folded(
            {k: [*own] for k, own in clients.items()},
            lambda k: self._aggregate(k, ARRAYS, trained[k], _owner(k, self._trains(k))),
            lambda: self._folded_shared(trained, counted),
            lambda k: _members(self._start(k), trained[k].values()),
            [*map(client_token, replies)],
            [*map(extras_of, replies)],
        )

    def fold_sums(self, sums: Mapping[int | str, OpenedSum], tokens: Sequence[ClientToken | WithoutToken]) -> FoldResult:
        """Fold opened sums into the state: each rule sees one reply, the mean of its clients'. To be called once.

        Args:
            sums: Those of subspaces, and that of all clients (:attr:`.rules.RuleSet.SHARED`) where it has opened.
            tokens: What the clients of the subspaces' sums have told, by client, ascending.
        """
        trained = {k: [*each.clients] for k, each in sorted(sums.items(), key=str) if isinstance(k, int)}

        def shared() -> Tensors:
            if RuleSet.SHARED not in sums:
                return self._state.shared
            return self._rule_of(RuleSet.SHARED, [self._mean_of(sums[RuleSet.SHARED], SHARED)])

        return self._folded(
            trained,
            lambda k: self._rule_of(_owner(k, self._trains(k)), [self._mean_of(sums[k], ARRAYS)]),
            shared,
            lambda k: [],
            tokens,
            [{} for _ in tokens],
        )

    def _folded(
        self,
        trained: Mapping[int, Sequence[int]],
        averaged: Callable[[int], Tensors],
        averaged_shared: Callable[[], Tensors],
        members: Callable[[int], list[Member]],
        replied: Sequence[ClientToken | WithoutToken],
        measured: Sequence[Mapping[str, Tensors]],
    ) -> FoldResult:
        """The state with what became of each subspace.

        Args:
            trained: The clients of each subspace that the round has trained.
            averaged: What a subspace's rule makes of their factors.
            averaged_shared: What the rule of the shared trainables makes of theirs.
            members: A subspace's clients with their factors, none where nobody sees them.
            replied: What all clients have told.
            measured: What each has sent beside its weights.
        """
        program, state, assignment, method = self._program, self._state, self._assignment, self._program.method
        before = dataclasses.replace(state, subspaces=[*state.subspaces, *(self._fresh for _ in assignment.opened)])
        subspaces = [*before.subspaces]
        tasks = [*(dict(row) for row in state.tasks), *({} for _ in assignment.opened)]
        rounds, base = Counter(state.rounds), state.base
        errors: dict[int, float | None] = {}
        begin = program.fresh_after_round(state) if program.aggregation.changes_base else self._fresh
        for k, clients in trained.items():
            start, own = subspaces[k], members(k)
            result = program.aggregation.combine(start, {**start, **averaged(k)}, own, begin)
            subspaces[k], base = result.subspace, add_pairs(base, result.base)
            rounds[k] += 1
            if own and not self._hides and method.acts_as_product and not program.args.fcit_target_parameters:
                errors[k] = product_error(result, own)
            for client in clients:
                name = program.task_name(self._work[client])
                tasks[k][name] = tasks[k].get(name, 0) + 1
        shared = averaged_shared() if state.shared else state.shared
        organizer = method.organizer_of(state.stage, state.round)
        told = [token for token in replied if isinstance(token, ClientToken)]
        after = dataclasses.replace(
            state,
            tokens=organizer.update(state.tokens, told, assignment),
            shared=shared,
            subspaces=subspaces,
            tasks=tasks,
            rules=self._rules.to_arrays(),
            rounds=rounds,
            base=base,
            projectors=self._projectors(shared, trained) if method.keeps_projectors and shared else [],
            alone=alone_after(state.alone, trained, state.rounds),
            own_cosines=added(
                state.own_cosines,
                [
                    (assignment.subspace[token.client], bounded(token.own_cosines, token.count))
                    for token in told
                    if token.own_cosines is not None
                ],
            ),
        )
        if method.trains_projectors:
            after = dataclasses.replace(after, shared=_mean_of(self._own), projectors=self._own)
        remembered = method.remember_of(
            before,
            after,
            measured,
            [token.num_examples for token in replied],
            [assignment.subspace[token.client] for token in replied],
        )
        after = dataclasses.replace(after, method_state=remembered)
        return FoldResult(dataclasses.replace(after, subspaces=method.merged(after)), errors)

    def _shared_of(self, k: int) -> Tensors:
        state = self._state
        if k in self._assignment.opened or not state.projectors:
            return state.shared
        return state.projectors[k]

    def _folded_shared(self, trained, counted) -> Tensors:
        if not counted:
            return self._state.shared
        if not self._program.method.trains_projectors:
            return self._aggregate(RuleSet.SHARED, SHARED, counted, RuleSet.SHARED)
        state = self._state
        known = state.projectors or [state.shared] * len(state.subspaces)
        self._own = [*known, *(state.shared for _ in self._assignment.opened)]
        for k, own in trained.items():
            self._own[k] = self._aggregate(RuleSet.SHARED, SHARED, own, RuleSet.SHARED)
        return self._state.shared

    def _start(self, k: int) -> Tensors:
        """What the clients of a subspace start from."""
        return self._fresh if k in self._assignment.opened else self._state.subspaces[k]

    def _mean_of(self, opened: OpenedSum, name: str) -> Message:
        """One record of a sum as a reply: what was sent plus the mean change, with the weight of all its clients."""
        request = self.requests[opened.clients[0]]
        changes = split_sum(opened.mean, request, name)
        sent = arrays_of(request, name)
        mean = {key: Array((numbers_of(sent[key]) + change).astype(np.float32)) for key, change in changes.items()}
        content = RecordDict({ARRAYS: record_of(mean), METRICS: MetricRecord({NUM_EXAMPLES: opened.weight})})
        return Message(content, reply_to=request)

    def _trains(self, k: int) -> str:
        """The factors of a subspace that the round trains."""
        return self._program.aggregation.trains(self._state.rounds[k])

    def _clipped(self, reply: Message) -> Message:
        """A reply as its subspace takes it."""
        return reply if self._privacy is None else self._privacy.clip(reply, self.requests[reply.metadata.src_node_id])

    def _by_subspace(self, updates: Mapping[int, Message]) -> dict[int, dict[int, Message]]:
        """The updates of each subspace that has any, by client."""
        found: dict[int, dict[int, Message]] = {}
        for client, update in updates.items():
            found.setdefault(self._assignment.subspace[client], {})[client] = update
        return found

    def _counted(self, updates: dict[int, Message]) -> dict[int, Message]:
        """The updates of a subspace's clients as its rule counts them: in a relay they are one."""
        state, program = self._state, self._program
        if not program.relays:
            return updates
        return of_chain(updates, lambda client: program.turn(state.stage, state.round, client))

    def _aggregate(self, owner: int | str, name: str, updates: Mapping[int, Message], rule: int | str) -> Tensors:
        """What a server rule makes of one record of its clients' updates; the noise is drawn for the record's owner."""
        wants, state = self._rules.wants, self._state
        parts = [part_of(update, self.requests[client], name, wants) for client, update in updates.items()]
        if self._privacy is not None and self._hides:
            request = self.requests[next(iter(updates))]
            parts = [self._privacy.release(parts, request, name, state.stage, state.round, owner)]
        return self._rule_of(rule, parts)

    def _rule_of(self, rule: int | str, parts: Sequence[Message]) -> Tensors:
        return self._rules.aggregate(rule, self._state.round + 1, parts)

    def _projectors(self, shared: Tensors, trained: Iterable[int]) -> list[Tensors]:
        """For each subspace the shared trainables as they were when it was last trained."""
        state = self._state
        known = state.projectors or [state.shared] * len(state.subspaces)  # none yet: as if nothing had moved since
        projectors = [*known, *(shared for _ in self._assignment.opened)]
        for k in trained:
            projectors[k] = shared
        return projectors


def _mean_of(states: Sequence[Tensors]) -> Tensors:
    return {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}


def _owner(k: int, trains: str) -> int | str:
    """Whose rule it is: A and B that are trained in turn have one each, what it remembers is of their numbers."""
    return k if trains == BOTH else f"{k}.{trains}"


def _members(start: Tensors, updates: Collection[Message]) -> list[Member]:
    """The clients of a subspace, each with its share n_c / n of the examples."""
    total = sum(map(num_examples, updates))
    return [Member(num_examples(update) / total, _Factors(start, arrays_of(update))) for update in updates]


class _Factors(Mapping[str, torch.Tensor]):
    """A client's factors, each read when it is asked for: what it returned, and of the rest what it began from."""

    def __init__(self, start: Tensors, returned: ArrayRecord) -> None:
        self._start, self._returned = start, returned

    def __getitem__(self, key: str) -> torch.Tensor:
        return to_state({key: self._returned[key]})[key] if key in self._returned else self._start[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._start)

    def __len__(self) -> int:
        return len(self._start)
