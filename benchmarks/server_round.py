"""The server's side of a round, CPU seconds by part: ``python benchmarks/server_round.py``.

A round with the shapes of LLaVA-1.5-7B (LoRA of rank 8 on the MLPs of 32 layers, the projector), whose clients answer at once:
their requests are made, their replies kept, judged and folded, and the state is committed. What the clients do is not counted.
The baseline is one SHA-256 pass over the replies, which is the least that keeping them takes. Goal: 6 CPU seconds.
"""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measure import arguments, show
from round_overhead import Stopwatch

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation import messages, reply_cache, round, server
from fcit_plugin.federation.client import TrainingResult, make_client_app
from fcit_plugin.federation.in_process_grid import InProcessGrid
from fcit_plugin.federation.program import Program
from fcit_plugin.federation.reply_cache import ReplyCache
from fcit_plugin.federation.round import Round
from fcit_plugin.federation.rules import RuleSet
from fcit_plugin.knowledge.identity_tokens import ClientToken
from fcit_plugin.scenario.settings import get_scenario
from fcit_plugin.state.checkpoints import Checkpoints
from fcit_plugin.state.progress import Traffic
from fcit_plugin.state.server_state import save_state

CLIENT = "clients (not the server's)"
D = 768


def shapes(layers: int, hidden: int, inner: int, vision: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A blank subspace of rank 8, and the projector."""
    sizes = {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    blank = {}
    for i in range(layers):
        for name, (columns, rows) in sizes.items():
            key = f"base_model.model.model.language_model.layers.{i}.mlp.{name}.lora_"
            blank |= {f"{key}A.weight": torch.zeros(8, columns), f"{key}B.weight": torch.zeros(rows, 8)}
    key = "model.multi_modal_projector.linear_"
    projector = {f"{key}1.weight": (hidden, vision), f"{key}1.bias": (hidden,), f"{key}2.weight": (hidden, hidden)}
    return blank, {name: torch.zeros(shape) for name, shape in (projector | {f"{key}2.bias": (hidden,)}).items()}


class AtOnce:
    """Local training that takes no step: each tensor gets a number of the client's own."""

    def token(self, config):
        """All clients are of one kind."""
        mean = np.ones(D, np.float32)
        mean[config.client] += 0.1
        return ClientToken(config.client, mean, 100, 100)

    def train(self, config, subspace, shared, extras):
        """See :class:`fcit_plugin.federation.client.LocalTraining`."""
        step = 1e-3 * (1 + config.client)
        return TrainingResult(*({key: value + step for key, value in part.items()} for part in (subspace, shared)), 0.5)


class Silent:
    """Journal and observer in one, without a word."""

    def mark(self):
        """See :class:`fcit_plugin.federation.reply_cache.Journal`."""

    def since(self, mark):
        """See :class:`fcit_plugin.federation.reply_cache.Journal`."""
        return {}

    def clients_asked(self, asked):
        """See :class:`fcit_plugin.federation.server.RunObserver`."""

    def reply_dropped(self, dropped):
        """Every reply is good."""
        raise AssertionError(dropped)

    def round_ended(self, *result):
        """See :class:`fcit_plugin.federation.server.RunObserver`."""


def timed_parts() -> dict[str, list]:
    """The functions of each part."""
    return {
        "requests made": [(Round, "_configure")],
        "requests hashed": [(reply_cache, "request_digest")],
        "replies kept": [(ReplyCache, "arrived")],
        "bytes counted": [(server, "num_bytes")],
        "judging": [(server, "judge_tokens"), (server, "judge_updates")],
        "folding: server rule": [(RuleSet, "aggregate")],
        "folding: error of the products": [(round, "product_error")],
        "folding: rest": [(Round, "fold")],
        "commit": [(Checkpoints, "commit")],
    }


def rounds(folder: Path, replies: int, count: int, tensors, watch: Stopwatch) -> Iterator[dict[str, float]]:
    """CPU seconds by part, of one round after the other."""
    blank, projector = tensors
    keys = {"fcit_setting": "custom", "fcit_stages": [["a"]], "fcit_num_rounds": count, "fcit_num_clients": replies}
    args = FcitArguments(**keys, fcit_clients_per_round=replies)
    program = Program(args, get_scenario("custom", args.fcit_stages, args.fcit_schedule), 0, blank)
    checkpoints, silent, client = Checkpoints(folder), Silent(), make_client_app(AtOnce())

    def app(message, context):
        with watch.part(CLIENT):
            return client(message, context)

    kept = ReplyCache(app, lambda stage, number: checkpoints.replies(number), "run", silent)
    grid = InProcessGrid(kept, range(replies), on_reply=lambda request, reply: kept.arrived(request, reply))
    state = server.first_state(D, projector)
    for number in range(count):
        watch.seconds.clear()
        with watch.watching(timed_parts()), watch.part("rest"):
            state = server.run_round(program, state, grid, silent, Traffic())
            checkpoints.commit(number + 1, lambda target, state=state: save_state(state, target, {}, {}))
        yield dict(watch.seconds)


def one_pass(replies: int, tensors) -> float:
    """CPU seconds of one SHA-256 pass over as many bytes as the replies have."""
    from hashlib import sha256

    data = bytes(sum(4 * value.numel() for part in tensors for value in part.values()))
    start = time.process_time()
    for _ in range(replies):
        sha256(data).digest()
    return time.process_time() - start


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, replies=5, rounds=3)
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    replies, count = (2, 2) if args.tiny else (args.replies, args.rounds)
    tensors = shapes(2, 16, 32, 8) if args.tiny else shapes(32, 4096, 11008, 1024)
    watch, found = Stopwatch(time.process_time), []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in rounds(Path(folder), replies, count, tensors, watch):
            found.append((seconds, one_pass(replies, tensors)))
    size = sum(4 * value.numel() for part in tensors for value in part.values())
    print(f"{replies} replies of {size / 1e6:.1f} MB, {messages.ARRAYS} and {messages.SHARED}")
    names = sorted(found[-1][0], key=lambda name: -found[-1][0][name])
    mean = {name: sum(seconds.get(name, 0.0) for seconds, _ in found) / count for name in names}
    base = sum(base for _, base in found) / count
    show(("part", "CPU s a round", "of one SHA-256 pass"), [(name, f"{mean[name]:.2f}", mean[name] / base) for name in names])
    whole = sum(mean.values()) - mean[CLIENT]
    print(f"server: {whole:.2f} CPU s a round, {whole / base:.1f} SHA-256 passes")


if __name__ == "__main__":
    main()
