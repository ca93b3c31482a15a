"""Runs that are watched, or disturbed, from within: ``python -m fcit_plugin.gpu_check.probes PROBE RECIPE DEVICE FOUND``."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from .bench import Bench


class Memory(TrainerCallback):
    """Counts the memory in use before each client trains.

    Args:
        bench: Says how.
        found: File to write the counts to.
    """

    def __init__(self, bench: Bench, found: Path) -> None:
        self.bench = bench
        self.found = found
        self.counts: list[int] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A client is about to begin."""
        self.counts.append(self.bench.allocated())
        self.found.write_text(json.dumps(self.counts), encoding="utf-8")


class NoMemory(TrainerCallback):
    """Leaves the process hardly any memory from the third client on."""

    clients = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is about to begin."""
        self.clients += state.global_step == 0
        if self.clients == 3:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1])


class SecondDies(TrainerCallback):
    """Kills the second of several processes in the first step of the third client."""

    clients = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is about to begin."""
        self.clients += state.global_step == 0
        if self.clients == 3 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)


PROBES: Mapping[str, Callable[[Bench, Path], TrainerCallback]] = {
    "memory": Memory,
    "no_memory": lambda bench, found: NoMemory(),
    "second_dies": lambda bench, found: SecondDies(),
}


def main(probe: str, recipe: str, device: str, found: str) -> None:
    """Run a recipe with a probe on its clients."""
    import yaml

    from ..autoload import autoload
    from ..errors import end_in_a_sentence

    autoload()
    end_in_a_sentence()
    bench = Bench(device, Path(recipe).parent)
    bench.train_here(yaml.safe_load(Path(recipe).read_text(encoding="utf-8")), [PROBES[probe](bench, Path(found))])


if __name__ == "__main__":
    main(*sys.argv[1:])
