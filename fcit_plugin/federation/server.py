"""The server loop over stages and rounds."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from ..adapters.aggregation import LoraAggregation
from ..adapters.lora import Tensors, fresh_subspace
from ..arguments import FcitArguments
from ..continual.method import ContinualMethod
from ..continual.methods import make_method
from ..errors import FcitError
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens
from ..knowledge.organizer import Assignment
from ..knowledge.prototypes import MAX_KINDS
from ..scenario.sampling import sample_clients
from ..scenario.tasks import Scenario
from ..state.progress import Traffic
from ..state.server_state import ServerState
from .client import work_config
from .messages import COMPRESSION, CONFIG, mean_loss, num_bytes
from .privacy import UpdatePrivacy
from .round import configure, fold
from .rules import RuleSet
from .validation import Bounds, judge_tokens, judge_updates

#: Keys that tell one run from another, beside the seed.
_IDENTITY = (
    *("fcit_setting", "fcit_task_order", "fcit_stages", "fcit_schedule"),
    *("fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_method", "fcit_server_rule"),
    *("fcit_lora_aggregation", "fcit_local_stage"),
)


@dataclass
class Program:
    """What all three fcit stages share: the scenario, the method's parts, and who takes part when.

    Attributes:
        args: The recipe's fcit keys.
        scenario: Tasks and schedule.
        seed: Seed of the run.
        blank: Any subspace of the model; gives keys and shapes.
    """

    args: FcitArguments
    scenario: Scenario
    seed: int
    blank: Tensors

    @cached_property
    def method(self) -> ContinualMethod:
        """The continual method."""
        return make_method(self.args)

    @cached_property
    def aggregation(self) -> LoraAggregation:
        """What becomes of the clients' LoRA factors."""
        return self.args.part("lora_aggregations").load()()

    def rules(self, state: ServerState) -> RuleSet:
        """The server rules of the next round, with what they remember of the rounds before."""
        return RuleSet.from_arrays(self.args, state.rules)

    def fresh(self, stage: int) -> Tensors:
        """The initialisation of all subspaces that open in a stage."""
        return fresh_subspace(self.blank, seed=self.seed * 1_000_003 + stage)

    def fresh_after_round(self, state: ServerState) -> Tensors:
        """The initialisation of a LoRA that begins anew after a round; another one in each round."""
        number = state.stage * self.args.fcit_num_rounds + state.round
        return fresh_subspace(self.blank, seed=self.seed * 1_000_003 + 500_009 + number)

    @cached_property
    def run_id(self) -> str:
        """What every request and reply of a run names; runs of one recipe, at whatever sites, have the same."""
        args = self.args.to_dict()
        identity = {"seed": self.seed, **{key: args[key] for key in _IDENTITY}}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def num_stages(self) -> int:
        """T, the number of stages that are trained."""
        return self.scenario.num_stages

    def work(self, stage: int, round: int, attempt: int = 0) -> dict[int, ConfigRecord]:
        """The clients sampled for a round, each with its task; other ones in a further attempt at it."""
        num_clients, per_round = self.args.fcit_num_clients, self.args.fcit_clients_per_round
        clients = sample_clients(num_clients, per_round, seed=self.seed, stage=stage, round=round, attempt=attempt)
        return {
            client: self.work_of(stage, round, client, self.scenario.task_of(stage, position))
            for position, client in enumerate(clients)
        }

    def work_of(self, stage: int, round: int, client: int, task: int) -> ConfigRecord:
        """What one client has to know."""
        config = work_config(self.run_id, stage, round, client, task)
        if self.args.fcit_update_compression != "none":
            config[COMPRESSION] = self.args.fcit_update_compression
        return config

    @property
    def privacy(self) -> UpdatePrivacy | None:
        """What is done to updates for their clients' privacy, None if nothing."""
        return UpdatePrivacy.from_args(self.args, self.seed)

    def bounds(self, state: ServerState) -> Bounds:
        """What a reply may hold at most."""
        return Bounds.from_args(self.args, state.tokens.sums.shape[1], self.method.reports_kinds)

    def largest_update(self, state: ServerState) -> int:
        """Bytes that an update folder's file may have: all its numbers, and a megabyte for what describes them."""
        wants = {*self.method.wants(state.stage, state.round), *self.rules(state).wants}
        numbers = sum(value.numel() for value in (*self.blank.values(), *state.shared.values())) * (1 + len(wants))
        dimension = state.tokens.sums.shape[1]
        numbers += dimension + (MAX_KINDS * (dimension + 2) if self.method.reports_kinds else 0)
        return 4 * numbers + 2**20

    def task_name(self, config: ConfigRecord) -> str:
        """Name of the task that a client works on."""
        return self.scenario.tasks[config["task"]].name


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
            client: Message(RecordDict({CONFIG: config}), dst_node_id=client, message_type=MessageType.QUERY)
            for client, config in work.items()
        }
        observer.clients_asked(
            [{"stage": stage, "client": client, "task": program.task_name(config)} for client, config in work.items()]
        )
        tokens, dropped = judge_tokens(queries, send(queries.values()), program.bounds(state))
        leave_out(dropped)
        done, dropped = train_round(program, state, work, tokens, lambda requests: send(requests.values()))
        leave_out(dropped)
        if done is not None:
            break
    else:
        raise RoundFailed(too_few(program, state, reasons, f"in {attempts} attempts" if attempts > 1 else "in one attempt"))
    assignment = done.assignment
    rows = [
        {
            "stage": stage,
            "round": round,
            "client": client,
            "task": program.task_name(work[client]),
            "subspace": k,
            "cosine": None if math.isnan(assignment.cosine[client]) else assignment.cosine[client],
        }
        for client, k in sorted(assignment.subspace.items())
    ]
    observer.round_ended(done.state, rows, traffic, mean_loss(done.replies), done.product_error)
    return done.state


@dataclass(frozen=True)
class RoundResult:
    """A round that is done.

    Attributes:
        state: The state after it, which already points at the next one.
        assignment: Who trained which subspace.
        replies: The replies that were folded in.
        product_error: See :class:`.round.FoldResult`.
    """

    state: ServerState
    assignment: Assignment
    replies: Sequence[Message]
    product_error: Mapping[int, float | None]


def train_round(
    program: Program,
    state: ServerState,
    work: Mapping[int, ConfigRecord],
    tokens: Mapping[int, ClientToken],
    train: Callable[[Mapping[int, Message]], Iterable[Message]],
) -> tuple[RoundResult | None, dict[int, str]]:
    """What a round is once the identity tokens are known, in this process or by folders: assign, train, fold, advance.

    Clients whose update cannot be used leave no trace: the others are assigned and folded as if those had never been
    asked. That is possible after training because a client's start depends on its own token alone
    (:mod:`..knowledge.organizer`).

    Args:
        program: Scenario and method.
        state: The state before the round; it is not changed.
        work: What the clients have to know, each with its task.
        tokens: The identity tokens of those of them that take part.
        train: Gives the clients' replies to the requests, which it takes by client.

    Returns:
        The round, or None if there were too few good replies; and why clients were left out.
    """
    fresh, organizer = program.fresh(state.stage), program.method.organizer(state.stage)

    def prepare(clients: Iterable[int]) -> tuple[RuleSet, Assignment, dict[int, Message]]:
        rules = program.rules(state)
        assignment = organizer.assign([tokens[client] for client in clients], state.tokens)
        return rules, assignment, configure(state, rules, assignment, fresh, work, program.method, program.aggregation)

    if len(tokens) < program.args.fcit_min_replies:
        return None, {}
    rules, assignment, requests = prepare(tokens)
    good, dropped = judge_updates(requests, train(requests), tokens, program.bounds(state))
    if len(good) < program.args.fcit_min_replies:
        return None, dropped
    if dropped:
        rules, assignment, requests = prepare(good)
    replies = list(good.values())
    tasks = {client: program.task_name(work[client]) for client in good}
    parts = (program.method, program.aggregation, lambda: program.fresh_after_round(state), program.privacy)
    folded = fold(state, rules, organizer, assignment, fresh, requests, replies, tasks, *parts)
    folded.state.advance(program.args.fcit_num_rounds)
    return RoundResult(folded.state, assignment, replies, folded.product_error), dropped


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
