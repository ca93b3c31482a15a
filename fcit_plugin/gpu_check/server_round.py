"""One round of the server with the shapes of a 7B model, whose clients answer at once."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..adapters.lora import Tensors
from ..arguments import FcitArguments
from ..federation.client import TrainingResult, make_client_app
from ..federation.in_process_grid import InProcessGrid
from ..federation.messages import ClientConfig
from ..federation.program import Program
from ..federation.server import run_round
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens
from ..scenario.settings import get_scenario
from ..state.progress import Traffic
from ..state.server_state import ServerState

CLIENTS, RANK, WIDTH, INNER = 5, 8, 4096, 11008
_SHAPES = {
    **{f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"},
    **{f"mlp.{name}_proj": (WIDTH, INNER) for name in ("gate", "up")},
    "mlp.down_proj": (INNER, WIDTH),
}


def _subspace(layers: int) -> Tensors:
    """A LoRA of rank 8 on all linear layers of a 7B."""
    found = {}
    for layer in range(layers):
        for name, (width, out) in _SHAPES.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            found[f"{key}.lora_A.weight"] = torch.randn(RANK, width)
            found[f"{key}.lora_B.weight"] = torch.zeros(out, RANK)
    return found


class _Local:
    """Local training that moves every weight a little."""

    def token(self, config: ClientConfig) -> ClientToken:
        direction = np.zeros(768, np.float32)
        direction[0] = 1.0
        return ClientToken(config.client, direction, 10, 10)

    def choose(self, config: ClientConfig, tokens: SubspaceTokens) -> int | None:
        raise NotImplementedError("All of these clients tell their tokens.")

    def train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        step = 1e-3 * (1 + config.client)
        moved, moved_others = ({key: value + step for key, value in part.items()} for part in (subspace, shared))
        return TrainingResult(moved, moved_others, 0.5)


class _Silent:
    """An observer of a round that keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def seconds_of_round(layers: int) -> float:
    """CPU seconds of one round with its messages, checks and sums.

    Args:
        layers: Layers of the model; 32 in a 7B.
    """
    keys: dict[str, Any] = {"fcit_num_clients": CLIENTS, "fcit_clients_per_round": CLIENTS, "fcit_num_rounds": 2}
    keys |= {"fcit_setting": "custom", "fcit_stages": [["a"]]}
    args = FcitArguments(**keys)
    blank = _subspace(layers)
    projector = {f"model.multi_modal_projector.linear_{k}.weight": torch.randn(WIDTH, WIDTH) for k in (1, 2)}
    program = Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), 0, blank)
    state = ServerState(SubspaceTokens.empty(768), projector, [])
    grid = InProcessGrid(make_client_app(_Local()), range(CLIENTS))
    start = time.process_time()
    run_round(program, state, grid, _Silent(), Traffic())
    return time.process_time() - start
