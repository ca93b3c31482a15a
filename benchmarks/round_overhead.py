"""What a round costs beyond its training steps, by part: ``python benchmarks/round_overhead.py``.

Rounds of FCIT-mini with 3 clients of 50 steps each, without evaluation. Goal: at most 5 % of a round.
"""

import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measure import arguments, session, show

STEPS = "training steps"


class Stopwatch:
    """Seconds by part; what runs within another part is taken off that one.

    Args:
        clock: Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within the block the time is this part's."""
        self._inner.append(0.0)
        start = self._clock()
        try:
            yield
        finally:
            whole = self._clock() - start
            self.seconds[name] += whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed

    @contextlib.contextmanager
    def watching(self, parts: dict[str, Sequence[tuple[Any, str]]]) -> Iterator[None]:
        """Within the block these attributes of modules and classes are timed, by part."""
        with contextlib.ExitStack() as stack:
            for name, places in parts.items():
                for owner, attribute in places:
                    timed = self._timed(name, getattr(owner, attribute))
                    stack.enter_context(mock.patch.object(owner, attribute, timed))
            yield


def parts() -> dict[str, list]:
    """The functions of each part."""
    from transformers import Trainer

    from fcit_plugin.engine import client_training as local
    from fcit_plugin.federation import client, messages, reply_cache, round, server
    from fcit_plugin.federation.rules import RuleSet
    from fcit_plugin.knowledge.organizer import Organizer
    from fcit_plugin.state.checkpoints import Checkpoints

    return {
        STEPS: [(Trainer, "_run_epoch")],
        "client set-up: records, tokens": [
            (local.LocalTrainer, "token"), (local.LocalTrainer, "features"), (local.LocalTrainer, "_client_args"),
        ],
        "trainer: construction": [(Trainer, "__init__")],
        "trainer: preparation and end": [(Trainer, "train")],
        "trainer: tear-down": [(local, "tear_down")],
        "state swap": [
            (local, name) for name in ("write_subspace", "write_shared", "read_subspace", "read_shared")
        ],
        "serialization": [
            *((owner, "to_state") for owner in (client, round) if hasattr(owner, "to_state")),
            (client, "update_reply"), (server, "num_bytes"), (messages, "to_record"), (reply_cache, "request_digest"),
        ],
        "judging": [(server, "judge_tokens"), (server, "judge_updates")],
        "replies kept": [(reply_cache.ReplyCache, "arrived")],
        "organizing": [(Organizer, "assign"), (Organizer, "update")],
        "aggregating": [(RuleSet, "aggregate")],
        "commit": [(Checkpoints, "commit")],
    }  # fmt: skip


def main() -> None:
    """Print a table."""
    args = arguments(__doc__, steps=50, rounds=4)
    torch.set_num_threads(1)
    steps, rounds = (2, 1) if args.tiny else (args.steps, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        found = session(
            Path(folder),
            fcit_setting="custom",
            fcit_stages=[["fcit_clevr_math"]],
            fcit_num_rounds=rounds + 1,
            fcit_eval_every="never",
            max_steps=steps,
        )
        from fcit_plugin.engine.run import FederatedRun
        from fcit_plugin.federation import server

        run, watch = FederatedRun(found), Stopwatch()
        original, done = server.run_round, []

        def run_round(*round_args):
            if not done:  # the first one warms up: imports, caches
                done.append(True)
                return original(*round_args)
            with watch.watching(parts()), watch.part("everything else"):
                return original(*round_args)

        server.run_round = run_round
        try:
            run()
        finally:
            server.run_round = original
    whole = sum(watch.seconds.values())
    rows = sorted(watch.seconds.items(), key=lambda part: -part[1])
    show(
        ("part", "ms a round", "% of a round"),
        [(name, f"{1e3 * seconds / rounds:.1f}", f"{100 * seconds / whole:.2f}") for name, seconds in rows],
    )
    beyond = (whole - watch.seconds[STEPS]) / whole
    print(f"beyond training steps: {100 * beyond:.1f} % of a round of {whole / rounds:.2f} s with {steps} steps a client")


if __name__ == "__main__":
    main()
