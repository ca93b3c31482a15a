"""The server loop over stages and rounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from ..adapters.lora import State, fresh_subspace
from ..arguments import FcitArguments
from ..knowledge.organizer import Assignment, ClientToken, Organizer, SubspaceTokens, make_organizer
from ..scenario.sampling import sample_clients
from ..scenario.tasks import Scenario
from .client import work_config
from .grid import identify_process
from .messages import CONFIG, client_token, mean_loss, num_bytes
from .round import configure, fold
from .rules import RuleSet
from .state import ServerState


@dataclass
class Traffic:
    """Bytes of arrays that travelled, over the whole run."""

    up: int = 0
    down: int = 0


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
    blank: State
    organizer: Organizer = field(init=False)

    def __post_init__(self) -> None:
        identify_process()
        args = self.args
        self.organizer = make_organizer(args.fcit_method, args.fcit_similarity_threshold, args.fcit_max_subspaces)

    def rules(self, state: ServerState) -> RuleSet:
        """The server rules of the next round, with what they remember of the rounds before."""
        return RuleSet.from_arrays(self.args.fcit_server_rule, state.rules)

    def fresh(self, stage: int) -> State:
        """The initialisation of all subspaces that open in a stage."""
        return fresh_subspace(self.blank, seed=self.seed * 1_000_003 + stage)

    def work(self, stage: int, round: int) -> dict[int, ConfigRecord]:
        """The sampled clients of a round, each with its task."""
        clients = sample_clients(
            self.args.fcit_num_clients, self.args.fcit_clients_per_round, seed=self.seed, stage=stage, round=round
        )
        return {
            client: work_config(stage, round, client, self.scenario.task_of(stage, position))
            for position, client in enumerate(clients)
        }

    def task_name(self, config: ConfigRecord) -> str:
        """Name of the task that a client works on."""
        return self.scenario.tasks[config["task"]].name


class RunObserver(Protocol):
    """What the loop tells while it goes on."""

    def round_ended(
        self, state: ServerState, assignments: list[dict[str, Any]], traffic: Traffic, loss: float
    ) -> None:
        """Called with the state after the round, which already points at the next one, and the clients' mean loss."""
        ...


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
    """
    while state.stage < program.scenario.num_stages:
        state = run_round(program, state, grid, observer, traffic)
    return state


def run_round(
    program: Program, state: ServerState, grid: Grid, observer: RunObserver, traffic: Traffic
) -> ServerState:
    """One round: sample, query identity tokens, assign, train, fold."""
    stage, round = state.stage, state.round
    work = program.work(stage, round)

    def send(messages: list[Message]) -> list[Message]:
        replies = list(grid.send_and_receive(messages))
        traffic.down += sum(num_bytes(message) for message in messages)
        traffic.up += sum(num_bytes(reply) for reply in replies)
        return replies

    queries = [
        Message(RecordDict({CONFIG: config}), dst_node_id=client, message_type=MessageType.QUERY)
        for client, config in work.items()
    ]
    tokens = [client_token(reply) for reply in send(queries)]
    state, assignment, replies = train_round(program, state, work, tokens, lambda requests: send(list(requests.values())))
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
    observer.round_ended(state, rows, traffic, mean_loss(replies))
    return state


def train_round(
    program: Program,
    state: ServerState,
    work: Mapping[int, ConfigRecord],
    tokens: Sequence[ClientToken],
    train: Callable[[Mapping[int, Message]], Sequence[Message]],
) -> tuple[ServerState, Assignment, Sequence[Message]]:
    """What a round is once the identity tokens are known, in this process or by folders: assign, train, fold, advance.

    Args:
        program: Scenario and method.
        state: The state before the round; it is not changed.
        work: The clients, each with its task.
        tokens: Their identity tokens.
        train: Gives the clients' replies to the requests, which it takes by client.

    Returns:
        The state after the round, which already points at the next one; who trained which subspace; the replies.
    """
    assignment = program.organizer.assign(tokens, state.tokens)
    fresh = program.fresh(state.stage)
    rules = program.rules(state)
    requests = configure(state, rules, assignment, fresh, work)
    replies = train(requests)
    tasks = {client: program.task_name(config) for client, config in work.items()}
    state = fold(state, rules, program.organizer, assignment, fresh, requests, replies, tasks)
    state.advance(program.args.fcit_num_rounds)
    return state, assignment, replies


def first_state(dimension: int, shared: State) -> ServerState:
    """The state before the first round.

    Args:
        dimension: D of the identity tokens.
        shared: The shared trainables of the untuned model.
    """
    return ServerState(tokens=SubspaceTokens.empty(dimension), shared=shared)
