"""The server loop over stages and rounds."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from ..adapters.lora import Tensors
from ..errors import FcitError
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from ..knowledge.organizer import Assignment
from ..state.progress import Traffic
from ..state.server_state import ServerState, newly_not_finite
from .messages import CONFIG, TOKENS, ClientConfig, mean_loss, num_bytes, tokens_record, with_token
from .program import Program
from .relay import chains_of, train_in_turn
from .round import Round
from .rules import RuleSet
from .secure_round import SecureSession, fold_opened, groups_that_can
from .stored import close_files
from .token_checks import waiting
from .validation import judge_tokens, judge_updates


class RunObserver(Protocol):
    """What the loop tells while it goes on."""

    def clients_asked(self, asked: list[dict[str, Any]]) -> None:
        """Called for each attempt at a round with stage, client and task of everyone who is asked for a token."""
        ...

    def reply_dropped(self, dropped: dict[str, Any]) -> None:
        """Called for each client that is left out of a round, with stage, round, client and reason."""
        ...

    def round_ended(
        self,
        state: ServerState,
        assignments: list[dict[str, Any]],
        traffic: Traffic,
        loss: float,
        product_error: Mapping[int, float | None],
    ) -> None:
        """Called after a round.

        Args:
            state: The state after it, which already points at the next one.
            assignments: Who trained which subspace.
            traffic: Bytes so far.
            loss: The clients' mean loss.
            product_error: See :class:`.round.FoldResult`.
        """
        ...


class RoundFailed(FcitError):
    """Too few clients gave a usable reply, however often they were asked."""


def run(program: Program, state: ServerState, grid: Grid, observer: RunObserver, traffic: Traffic) -> ServerState:
    """All rounds of all stages from ``state`` on.

    Args:
        program: Scenario and method.
        state: Where to begin.
        grid: Carries the messages to the clients.
        observer: Hears of every round.
        traffic: Counts the bytes.

    Returns:
        The state after the last round.

    Raises:
        RoundFailed: See :func:`run_round`.
    """
    while state.stage < program.num_stages:
        state = run_round(program, state, grid, observer, traffic)
    return state


def run_round(program: Program, state: ServerState, grid: Grid, observer: RunObserver, traffic: Traffic) -> ServerState:
    """One round: sample, query identity tokens, assign, train, fold; with other clients if too few of these reply.

    Raises:
        RoundFailed: Too few replied in every attempt. The state is as it was, and so is all that is kept of it.
    """
    stage, round = state.stage, state.round
    reasons: list[str] = []

    def send(messages: Iterable[Message]) -> list[Message]:
        messages = list(messages)
        replies = list(grid.send_and_receive(messages))
        traffic.down += sum(num_bytes(message) for message in messages)
        traffic.up += sum(num_bytes(reply) for reply in replies)
        return replies

    def leave_out(dropped: Mapping[int, str]) -> None:
        for client, reason in dropped.items():
            reasons.append(reason)
            observer.reply_dropped({"stage": stage, "round": round, "client": client, "reason": reason})

    attempts = program.args.fcit_max_round_retries + 1
    for attempt in range(attempts):
        work = program.work(stage, round, attempt)
        queries = {
            client: Message(RecordDict({CONFIG: config.to_record()}), dst_node_id=client, message_type=MessageType.QUERY)
            for client, config in work.items()
        }
        observer.clients_asked(asked_of(program, stage, work))
        tokens, dropped = judge_tokens(queries, send(queries.values()), program.bounds(state))
        leave_out(dropped)
        tokens, dropped = _with_choices(program, state, work, tokens, send)
        leave_out(dropped)
        if program.sums is None:
            done, dropped = train_round(program, state, work, tokens, lambda requests: send(requests.values()))
        else:
            done, dropped = sum_round(program, state, work, tokens, attempt, send)
        leave_out(dropped)
        if done is not None:
            break
    else:
        raise RoundFailed(too_few(program, state, reasons, f"in {attempts} attempts" if attempts > 1 else "in one attempt"))
    rows = rows_of(program, state, work, done.assignment)
    observer.round_ended(done.state, rows, traffic, done.loss, done.product_error)
    return done.state


def _with_choices(
    program: Program,
    state: ServerState,
    work: Mapping[int, ClientConfig],
    tokens: Mapping[int, ClientToken | WithoutToken],
    send: Callable[[Iterable[Message]], list[Message]],
) -> tuple[dict[int, ClientToken | WithoutToken], dict[int, str]]:
    """The clients that take part, those without a token by a subspace that they pick by themselves; and why others do not.

    They are sent the state's tokens for that, which are no secret: every client may have them.
    """
    few = [client for client, token in tokens.items() if isinstance(token, WithoutToken)]
    there = {client: token for client, token in tokens.items() if client not in few}
    bounds = program.bounds(state)
    if not few or not state.tokens.num_subspaces:
        return there, {client: waiting(tokens[client], bounds) for client in few}
    record = tokens_record(state.tokens)
    queries = {
        client: Message(
            RecordDict({CONFIG: work[client].to_record(), TOKENS: record}), dst_node_id=client, message_type=MessageType.QUERY
        )
        for client in few
    }
    chosen, dropped = judge_tokens(queries, send(queries.values()), bounds)
    return dict(sorted((there | chosen).items())), dropped


def rows_of(
    program: Program, state: ServerState, work: Mapping[int, ClientConfig], assignment: Assignment
) -> list[dict[str, Any]]:
    """Who trained which subspace in a round, for its report.

    Args:
        program: Scenario and method.
        state: The state before the round.
        work: What the clients had to know.
        assignment: Those whose updates were used.
    """
    return [
        {
            "stage": state.stage,
            "round": state.round,
            "client": client,
            "task": program.task_name(work[client]),
            "subspace": k,
            "cosine": None if math.isnan(assignment.cosine[client]) else assignment.cosine[client],
        }
        for client, k in sorted(assignment.subspace.items())
    ]


def asked_of(program: Program, stage: int, work: Mapping[int, ClientConfig]) -> list[dict[str, Any]]:
    """Who was asked for a token in a round, and of what."""
    return [{"stage": stage, "client": client, "task": program.task_name(config)} for client, config in work.items()]


@dataclass(frozen=True)
class RoundResult:
    """A round that is done.

    Attributes:
        state: The state after it, which already points at the next one.
        assignment: Who trained which subspace.
        loss: Their mean loss.
        replies: The updates that were folded in, none where nobody sees them.
        product_error: See :class:`.round.FoldResult`.
    """

    state: ServerState
    assignment: Assignment
    loss: float
    replies: Sequence[Message]
    product_error: Mapping[int, float | None]


def train_round(
    program: Program,
    state: ServerState,
    work: Mapping[int, ClientConfig],
    tokens: Mapping[int, ClientToken | WithoutToken],
    train: Callable[[Mapping[int, Message]], Iterable[Message]],
) -> tuple[RoundResult | None, dict[int, str]]:
    """What a round is once the identity tokens are known, in this process or by folders: assign, train, fold, advance.

    Clients whose update cannot be used leave no trace: the others are assigned and folded as if those had never been
    asked. That is possible after training because a client's start depends on its own token alone
    (:mod:`..knowledge.organizer`). In a relay (:mod:`.relay`) it depends on the clients before it, too: there all keep the
    subspaces that they were asked to train.

    Args:
        program: Scenario and method.
        state: The state before the round; it is not changed.
        work: What the clients have to know, each with its task.
        tokens: The identity tokens of those of them that take part, or the subspaces that those without one have picked.
        train: Gives the clients' replies to requests, which it takes by client; in a relay it is called for each wave.

    Returns:
        The round, or None if there were too few good replies; and why clients were left out.
    """

    def prepare(
        clients: Collection[int], asked: Assignment | None = None
    ) -> tuple[Assignment, Round, list[ClientToken | WithoutToken]]:
        weighed = program.weighing.bounded(tokens[client] for client in clients)
        assignment = _assigned(program, state, weighed) if asked is None else asked.only(clients)
        return assignment, Round(program, state, assignment, work), weighed

    def judge(requests: Mapping[int, Message], replies: Iterable[Message]) -> tuple[dict[int, Message], dict[int, str]]:
        return judge_updates(requests, replies, tokens, program.bounds(state), norms)

    fewest, norms = program.fewest_replies(work), dict[str, dict[int, float]]()
    if len(tokens) < fewest:
        return None, {}
    assignment, round, weighed = prepare(tokens)
    if program.relays:
        chains = chains_of(program, state.stage, state.round, assignment)
        piece = partial(program.piece, state.round)
        good, dropped = train_in_turn(round.requests, chains, piece, train, judge, fewest)
    else:
        good, dropped = judge(round.requests, train(round.requests))
    if len(good) < fewest:
        return None, dropped
    if dropped:
        assignment, round, weighed = prepare(good, assignment if program.relays else None)
    replies = [
        good[c.client] if c is tokens[c.client] else with_token(good[c.client], round.requests[c.client], c, program.form.key)
        for c in weighed
    ]
    if program.check_release is not None:
        program.check_release(state.stage, state.round, replies)
    folded = round.fold(replies)
    close_files()
    _check_finite(folded.state, state)
    folded.state.advance(program.args.fcit_num_rounds)
    return RoundResult(folded.state, assignment, mean_loss(replies), replies, folded.product_error), dropped


def sum_round(
    program: Program,
    state: ServerState,
    work: Mapping[int, ClientConfig],
    tokens: Mapping[int, ClientToken | WithoutToken],
    attempt: int,
    send: Callable[[Iterable[Message]], list[Message]],
) -> tuple[RoundResult | None, dict[int, str]]:
    """The same with secure sums: assign, train masked, open the sums, fold, advance.

    Clients keep the subspaces that they were asked to train, whoever drops out: a sum cannot be divided again. Those whose
    subspace has too few clients in this round are left out before they train, and are no replies that are missing.

    Args:
        program: Scenario and method, and the keys of the sites.
        state: The state before the round; it is not changed.
        work: What the clients have to know, each with its task.
        tokens: What those of them that take part have told, by client.
        attempt: Number of the attempt at the round.
        send: Asks clients.
    """
    assert program.sums is not None
    fewest = program.fewest_replies(work)
    if len(tokens) < fewest:
        return None, {}
    weighed = program.weighing.bounded(tokens.values())
    assignment = _assigned(program, state, weighed)
    assignment, dropped = groups_that_can(assignment, program.args.fcit_secure_min_clients)
    least = min(fewest, len(assignment.subspace))
    if not least:
        return None, dropped

    def begin(assignment: Assignment) -> Round:
        return Round(program, state, assignment, work)

    session = SecureSession(program.sums, program.args, begin(assignment).requests, attempt, send)
    opened = session.run(lambda clients: len(clients) >= least)
    dropped = dict(sorted((dropped | session.dropped).items()))
    if not any(name != RuleSet.SHARED for name in opened):
        return None, dropped
    after, folded, loss = fold_opened(opened, assignment, begin, {token.client: token for token in weighed})
    close_files()
    _check_finite(folded.state, state)
    folded.state.advance(program.args.fcit_num_rounds)
    left = {client: why for client, why in dropped.items() if client not in after.subspace}
    return RoundResult(folded.state, after, loss, (), folded.product_error), left


def _assigned(program: Program, state: ServerState, weighed: Sequence[ClientToken | WithoutToken]) -> Assignment:
    """Who trains which subspace, by what the clients have told as it weighs."""
    told = [token for token in weighed if isinstance(token, ClientToken)]
    assignment = program.method.organizer_of(state.stage, state.round).assign(told, state.tokens)
    few = [token for token in weighed if isinstance(token, WithoutToken)]
    chosen = {token.client: token.subspace for token in few if token.subspace is not None}
    if chosen:
        together = sorted({**assignment.subspace, **chosen}.items())
        cosine = {**assignment.cosine, **dict.fromkeys(chosen, math.nan)}
        assignment = replace(assignment, subspace=dict(together), cosine=cosine)
    return assignment


def _check_finite(folded: ServerState, before: ServerState) -> None:
    """Refuse what a round has come to if it could be written and not read again: the run could not go on from it.

    Each reply is within its bounds, so it takes a rule or a method that makes more of them, or keys far from usual.
    """
    if (where := newly_not_finite(folded, before)) is not None:
        raise FcitError(
            f"Stage {before.stage}, round {before.round} comes to numbers that are not finite ({where}), and is not committed; "
            "the state before the round and the replies are kept. If a server rule or a method of your own makes them, mend it "
            "and start again, and the run goes on from there; otherwise begin again with a lower `learning_rate` or "
            "`fcit_server_learning_rate`, or with `fcit_max_update_norm`."
        )


def too_few(program: Program, state: ServerState, reasons: Iterable[str], when: str) -> str:
    """The sentences for a round that failed; an error that all clients ran into is not lost among the others."""
    distinct = list(dict.fromkeys(reason.rstrip(".") for reason in reasons))
    alike = "All that failed did so alike" if len(distinct) == 1 else "Among the reasons"
    why = f" {alike}: {'; '.join(distinct[:3])}." if distinct else ""
    return (
        f"Stage {state.stage}, round {state.round} failed {when}: fewer than {program.args.fcit_min_replies} "
        f"(`fcit_min_replies`) of the clients gave a reply that can be used.{why} The state before the round is untouched."
    )


def first_state(dimension: int, shared: Tensors) -> ServerState:
    """The state before the first round.

    Args:
        dimension: D of the identity tokens.
        shared: The shared trainables of the untuned model.
    """
    return ServerState(tokens=SubspaceTokens.empty(dimension), shared=shared)
