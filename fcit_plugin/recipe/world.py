"""Torchrun's world, which a process leaves in order to train clients of its own.

Transformers takes every process that torchrun has started for one that shares each optimizer step. With
``fcit_engine: parallel`` a process trains whole clients instead, as a run of one process on one device. It has to be one
before anything asks: LLaMA-Factory looks at the devices while it is imported. So the world is left at the end of
``import torch``, by what the command line says, and what torchrun has told of it is kept here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..arguments.network import FLOWER, SITE_STAGE
from ..arguments.reasons import refuse
from ..deployment.addresses import free_ports
from ..errors import ECHOES
from .devices import num_processes
from .engine import keys_on, why_shared

#: What torchrun tells each process of the others.
_TOLD = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK"),
    *("ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"),
)
#: What lets a process other than the first say nothing but errors: the first says the same.
_QUIET = {
    "LLAMAFACTORY_VERBOSITY": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    ECHOES: "1",
}


@dataclass(frozen=True)
class World:
    """What torchrun has told this process.

    Attributes:
        rank: Its number, from 0.
        count: How many processes there are, on all machines.
        local_rank: Its number on its machine.
        local_count: How many there are on its machine.
        address: The machine of the store that they meet at.
        port: Its port there.
        has_store: Whether torchrun's agent keeps the store; else the first process does.
        problem: Why this process cannot train, in a sentence; None if it can.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str
    port: int
    has_store: bool
    problem: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the first."""
        return self.rank == 0


_left: World | None = None


def left_world() -> World | None:
    """The world that this process has left; None where it is still in it, or there was none."""
    return _left


def leave_world(command_line: Sequence[str]) -> None:
    """Leave torchrun's world if the command line is that of a run whose processes train whole clients.

    Args:
        command_line: Without the program's name.
    """
    global _left
    told = os.environ
    if _left is not None or not {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= told.keys():
        return
    count = _world_size()
    if count < 2 or (keys := keys_on(command_line)) is None or why_shared(keys, count) is not None:
        return
    local_rank = int(told["LOCAL_RANK"])
    problem = _take_device(local_rank, keys.get("fcit_clients_per_device", 1))
    _left = World(
        rank=int(told["RANK"]),
        count=count,
        local_rank=local_rank,
        local_count=int(told.get("LOCAL_WORLD_SIZE", "1")),
        address=told["MASTER_ADDR"],
        port=int(told["MASTER_PORT"]),
        has_store=told.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        problem=problem,
    )
    for name in _TOLD:
        told.pop(name, None)
    if keys.get("deepspeed"):  # which wants a world: one of this process alone
        told.update(_world_of_one())
    if not _left.is_main:
        told.update(_QUIET)


def processes_of_a_step(keys: Mapping[str, Any], stage: str) -> tuple[int, list[str]]:
    """How many processes share each optimizer step of a client, and what is said of it.

    Args:
        keys: The recipe's keys, LLaMA-Factory's and ours.
        stage: The fcit stage.

    Raises:
        FcitError: The recipe wants whole clients trained in parallel, and that cannot be.
    """
    if _left is not None:
        return 1, [f"{_left.count} processes train clients in parallel, each of them whole ones."]
    processes = num_processes(_world_size()) if keys.get("fcit_dry_run") else _world_size()
    why = why_shared({**keys, "fcit_dry_run": False}, processes) if stage == "fcit" else "one client is trained"
    wanted = keys.get("fcit_engine") == "parallel"
    if keys.get("fcit_dry_run") and why is None:
        return 1, []
    if processes == 1:
        clients = keys.get("fcit_clients_per_device", 1)
        if wanted:
            note = "`fcit_engine: parallel` needs several processes, such as FORCE_TORCHRUN=1 NPROC_PER_NODE=2 in front starts."
        elif isinstance(clients, int) and clients > 1 and stage == "fcit" and not keys.get("fcit_dry_run"):
            why = why_shared({**keys, "fcit_dry_run": False}, clients) or "none but this one was started"
            note = f"`fcit_clients_per_device: {clients}` has no effect, because {why}."
        else:
            return 1, []
        return 1, [f"{note} This one trains the clients one after the other."]
    if why is None:
        why = "they were not started by `llamafactory-cli train` with a recipe"
    if keys.get("fcit_engine") == FLOWER and stage != SITE_STAGE:
        refuse(
            f"A server of `fcit_engine: flower` runs in one process, and there are {processes}; give it one device "
            "(CUDA_VISIBLE_DEVICES=0, or NPROC_PER_NODE=1)."
        )
    if wanted:
        refuse(f"`fcit_engine: parallel` cannot be, because {why}; take `auto`.")
    if stage != "fcit":
        return processes, []
    return processes, [f"{processes} processes share each optimizer step of a client, because {why}."]


def without_world(keys: dict[str, Any]) -> dict[str, Any]:
    """A recipe's keys without the one by which accelerate would look for a world that this process has left.

    Args:
        keys: LLaMA-Factory's.
    """
    leaves_out = _left is not None and not keys.get("deepspeed")  # DeepSpeed has a world of this process alone
    return {key: value for key, value in keys.items() if not (leaves_out and key == "ddp_backend")}


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _take_device(local_rank: int, clients: Any) -> str | None:
    """Let this process see its own device alone; says why it cannot have one."""
    devices = torch.cuda.device_count()  # by NVML: nothing is set up on a device
    if not devices:
        return None
    number = local_rank // (clients if isinstance(clients, int) and clients > 0 else 1)
    if number >= devices:
        return (
            f"Process {local_rank} of this machine has no device of its own: there are {devices}, and each trains {clients} "
            "(`fcit_clients_per_device`); start fewer processes (NPROC_PER_NODE), or let a device train more."
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
    return None


def _world_of_one() -> dict[str, str]:
    one = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    return {**one, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
