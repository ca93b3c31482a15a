"""A federation without a model: seven clients with tensors of a few numbers, for whole rounds in milliseconds."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flwr.app import Message

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.client import TrainingResult, make_client_app
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.privacy import tells_own_cosines
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.server import run_round
from fcit_plugin.knowledge.identity_tokens import ClientToken, SubspaceTokens
from fcit_plugin.knowledge.own_cosines import BINS
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.progress import Traffic
from fcit_plugin.state.server_state import ServerState

logging.getLogger("flwr").setLevel(logging.WARNING)  # as in a session: it logs every message

D = 6
BLANK = {"l.lora_A.weight": torch.zeros(2, 3), "l.lora_B.weight": torch.zeros(4, 2)}
PROJECTOR = {"projector.weight": torch.zeros(5)}
E = np.eye(D, dtype=np.float32)
#: At the threshold 0.7: 0 and 1 match subspace 0, 2 matches subspace 1, 3 is of a new kind alone, and 6 is like 4 and
#: like 5, which are not like each other.
TOKENS = {0: E[0], 1: E[0] + 0.1 * E[5], 2: E[1], 3: E[2], 4: E[3], 5: E[4], 6: E[3] + E[4]}


def noise(seed: int, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random tensors of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=generator) for key, value in like.items()}


def squares(seed: int, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random tensors without negative numbers, as what clients measure may have to be."""
    return {key: value**2 for key, value in noise(seed, like).items()}


class Local:
    """Local training that adds noise of the client's own; its token says what kind of client it is."""

    #: Whether clients tell how near their instructions lie to their tokens; None: as the toy's recipe has it.
    tells: bool | None = None

    def token(self, config):
        client = config.client
        return ClientToken(client, TOKENS[client], 10 + client, 20 + client, own_cosines=own(client) if self.tells else None)

    def train(self, config, subspace, shared, extras):
        step = noise(1 + config.client + 100 * config.round, subspace | shared)
        measured = {name: squares(500 + config.client, subspace | shared) for name in config.wants}
        new = ({key: value + step[key] for key, value in part.items()} for part in (subspace, shared))
        return TrainingResult(*new, 0.5, measured)


def own(client: int) -> tuple[int, ...]:
    """What a client tells of its instructions: five have 0.6 or more, the others 0.7 or more, of the next client 0.75."""
    return tuple(5 if place == 32 else 5 + client if place == 34 + client % 2 else 0 for place in range(BINS))


@dataclass
class RecordingObserver:
    """What an observer heard."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[int, float | None]] = field(default_factory=list)
    ended: int = 0

    def clients_asked(self, asked) -> None:
        self.asked.extend(asked)

    def reply_dropped(self, dropped) -> None:
        self.dropped.append(dropped)

    def round_ended(self, state, assignments, traffic, loss, product_error) -> None:
        self.rows += assignments
        self.errors.append(product_error)
        self.ended += 1
        self.loss = loss


class Toy:
    """A federation of the seven clients, all asked in every round unless ``changes`` of the recipe say otherwise.

    Args:
        without: Clients that are never asked.
        local: Local training.
        wrap: Makes the client app that the grid calls out of the clients' own.
        on_reply: Called with each request and each reply that arrives.
        grid: Further arguments of the grid.
        changes: Keys of the recipe.
    """

    def __init__(
        self,
        without: Iterable[int] = (),
        local: Any = None,
        wrap: Callable[[Any], Any] = lambda app: app,
        on_reply: Callable[[Message, Message], None] = lambda request, reply: None,
        grid: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        keys = {
            "fcit_setting": "custom",
            "fcit_stages": [["a"]],
            "fcit_num_clients": len(TOKENS),
            "fcit_clients_per_round": len(TOKENS),
            "fcit_num_rounds": 3,
            "fcit_similarity_threshold": 0.7,
        }
        args = FcitArguments(**(keys | changes))
        self.program = Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), 3, BLANK)
        work, absent = self.program.work, set(without)
        self.program.work = lambda *at: {c: config for c, config in work(*at).items() if c not in absent}
        local = local or Local()
        if getattr(local, "tells", False) is None:
            local.tells = tells_own_cosines(args, self.program.method.by_tokens)
        self.local, self.heard, self.traffic = local, RecordingObserver(), Traffic()
        app = wrap(make_client_app(self.local))
        self.grid = InProcessGrid(app, range(len(TOKENS)), on_reply=on_reply, **(grid or {}))

    def round(self, state: ServerState | None = None) -> ServerState:
        """One round."""
        return run_round(self.program, state or start(), self.grid, self.heard, self.traffic)


def start() -> ServerState:
    """A state with two subspaces and a projector."""
    tokens = SubspaceTokens(10 * E[:2], np.full(2, 10, np.int64))
    subspaces = [noise(60 + k, BLANK) for k in range(2)]
    return ServerState(tokens, noise(50, PROJECTOR), subspaces, tasks=[{"a": 1}, {"a": 1}])


def bits(state: ServerState) -> dict[str, Any]:
    """All that a state holds, to be compared bit for bit."""
    return {
        "subspaces": [{key: value.numpy().tobytes() for key, value in sorted(part.items())} for part in state.subspaces],
        "shared": {key: value.numpy().tobytes() for key, value in sorted(state.shared.items())},
        "tokens": {key: value.tobytes() for key, value in state.tokens.to_arrays().items()},
        "rules": {key: value.tobytes() for key, value in sorted(state.rules.items())},
        "method state": {key: value.numpy().tobytes() for key, value in sorted(state.method_state.items())},
        "projectors": [{key: value.numpy().tobytes() for key, value in sorted(part.items())} for part in state.projectors],
        "tasks": state.tasks,
        "rounds": state.rounds,
        "base": {key: value.numpy().tobytes() for key, value in sorted(state.base.items())},
        "own cosines": state.own_cosines,
        "next": (state.stage, state.round),
    }
