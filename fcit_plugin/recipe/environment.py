"""Environment variables by which LLaMA-Factory and accelerate change trainers, as keys of a recipe do."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..arguments.reasons import refuse
from .engine import keys_on, why_shared

USE_V1 = (
    "USE_V1=1 starts LLaMA-Factory's new trainer, which knows no fcit stages and no FCIT folder; unset USE_V1 and start again."
)
#: What LLaMA-Factory's launcher reads: whether to start torchrun, and with how many processes on this machine.
_TORCHRUN, _PROCESSES = "FORCE_TORCHRUN", "NPROC_PER_NODE"
#: What libgomp reads: for how many turns a waiting thread spins; and the number that was measured to be good
#: (benchmarks/parallel.py).
SPIN, _TURNS = "GOMP_SPINCOUNT", "10000"
#: Commands that can be started again as they are.
_COMMANDS = ("llamafactory-cli", "lmf", "llamafactory.cli", "fcit-cli")
_REFUSED = {
    "USE_RAY": "Ray is not needed: FORCE_TORCHRUN=1 takes all GPUs, and `stage: fcit_client` other machines",
    "USE_MCA": "Megatron has trainers and weights of its own",
    "USE_KT": "KTransformers keeps experts in a form of its own, which subspaces cannot be written into",
    "ACCELERATE_USE_FSDP": "FSDP divides the weights among processes, and subspaces are written whole; `deepspeed` does this",
}


def check_environment() -> None:
    """Refuse variables that would run the fcit stages otherwise than they are made for.

    Raises:
        FcitError: The sentence names the variable.
    """
    for name, why in _REFUSED.items():
        if os.environ.get(name, "0").lower() in ("true", "y", "1"):
            refuse(f"The environment variable {name} cannot be used with the fcit stages: {why}; unset it.")


def start_together(command_line: Sequence[str]) -> None:
    """Have LLaMA-Factory start a process for each client that its devices train at a time (``fcit_clients_per_device``).

    Args:
        command_line: What follows ``llamafactory-cli train``.
    """
    keys = keys_on(command_line) or {}
    clients = keys.get("fcit_clients_per_device", 1)
    if not isinstance(clients, int) or clients < 2 or _PROCESSES in os.environ:
        return
    processes = clients * max(torch.cuda.device_count(), 1)
    if why_shared(keys, processes) is None:
        os.environ[_TORCHRUN], os.environ[_PROCESSES] = "1", str(processes)


def wait_politely() -> None:
    """Let threads of OpenMP's that wait for each other spin for a short while only, and begin again with that.

    By itself libgomp spins for milliseconds, hundreds of times a step, and beside another busy process that is time which
    the thread that is waited for does not get. It reads the number when it is loaded, with torch, which is why the
    command starts itself again in the same process.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", SPIN)):
        return
    os.environ[SPIN] = _TURNS
    given = sys.orig_argv
    if given[len(given) - len(sys.argv) + 1 :] == sys.argv[1:] and any(Path(part).name in _COMMANDS for part in given[:3]):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *given[1:]])
