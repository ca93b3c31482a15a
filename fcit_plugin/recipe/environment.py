"""Environment variables by which LLaMA-Factory and accelerate change trainers, as keys of a recipe do."""

import os
from collections.abc import Sequence

import torch

from ..arguments.engine import MOST_CLIENTS
from ..arguments.reasons import refuse
from .engine import is_set, keys_on, why_shared

USE_V1 = (
    "USE_V1=1 starts LLaMA-Factory's new trainer, which knows no fcit stages and no FCIT folder; unset USE_V1 and start again."
)
#: What LLaMA-Factory's launcher reads: whether to start torchrun, and with how many processes on this machine.
_TORCHRUN, _PROCESSES = "FORCE_TORCHRUN", "NPROC_PER_NODE"
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
        if is_set(name):
            refuse(f"The environment variable {name} cannot be used with the fcit stages: {why}; unset it.")


def start_together(command_line: Sequence[str]) -> None:
    """Have LLaMA-Factory start a process for each client that its devices train at a time (``fcit_clients_per_device``).

    Args:
        command_line: What follows ``llamafactory-cli train``.
    """
    keys = keys_on(command_line) or {}
    clients = keys.get("fcit_clients_per_device", 1)
    if not isinstance(clients, int) or not 2 <= clients <= MOST_CLIENTS or _PROCESSES in os.environ:
        return
    processes = clients * max(torch.cuda.device_count(), 1)
    if why_shared(keys, processes) is None:
        os.environ[_TORCHRUN], os.environ[_PROCESSES] = "1", str(processes)
