"""Whether the processes of a run train whole clients, each its own, or share each step of one client after the other."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..arguments import FcitArguments
from ..arguments.network import FLOWER
from ..arguments.reasons import refuse
from ..files import read_bytes
from .devices import deepspeed_config, zero_stage
from .read import split_keys

#: LLaMA-Factory's own default.
_BATCH = 8


def keys_on(command_line: Sequence[str]) -> dict[str, Any] | None:
    """The keys of the recipe on a command line of ``stage: fcit``; None for any other command line.

    This is read while torch is imported, long before the recipe is parsed, which says what is wrong with it.

    Args:
        command_line: A recipe and overrides, or flags.
    """
    given: Any = list(command_line)
    try:
        if given and given[0].endswith((".yaml", ".yml")):
            parts = OmegaConf.create(read_bytes(Path(given[0])).decode()), OmegaConf.from_cli(given[1:])
            given = OmegaConf.to_container(OmegaConf.merge(*parts))
        keys, stage, ours = split_keys(given)
    except (OSError, TypeError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return None
    return {**keys, **(ours or {})} if stage == "fcit" and isinstance(keys, dict) else None


def why_shared(keys: Mapping[str, Any], processes: int) -> str | None:
    """Why the processes of a run share each client's steps; None where each of them trains clients of its own.

    Args:
        keys: The recipe's keys, LLaMA-Factory's and ours, as they were given.
        processes: How many there are.

    Returns:
        What follows "because".
    """
    engine, per_round = (keys.get(key, getattr(FcitArguments, key)) for key in ("fcit_engine", "fcit_clients_per_round"))
    if engine == FLOWER:
        return "the clients are sites (`fcit_engine: flower`)"
    if engine == "process":
        return "`fcit_engine` is process"
    if processes < 2:
        return "there is one process"
    if keys.get("fcit_dry_run"):
        return "it is a dry run"
    if keys.get("do_train", True) is False:
        return "nothing is trained (`do_train: false`)"
    if keys.get("fcit_bound") in ("centralized", "centralized_equal", "local"):
        return f"`fcit_bound: {keys['fcit_bound']}` trains one client at a time"
    if not isinstance(per_round, int) or per_round < 2:
        return "a round has one client (`fcit_clients_per_round`)"
    if _zero_stage(keys.get("deepspeed")) == 3:
        return "ZeRO-3 divides the model among all processes (`deepspeed`)"
    if is_set("ACCELERATE_USE_FSDP"):
        return "FSDP divides the model among all processes"
    return None


def is_set(name: str) -> bool:
    """Whether an environment variable is on, as LLaMA-Factory takes it."""
    return os.environ.get(name, "0").lower() in ("true", "y", "1")


def _zero_stage(given: Any) -> int:
    """The ZeRO stage of the key ``deepspeed``; 0 where it says none that can be read, which is refused when it is parsed."""
    try:
        return zero_stage({"deepspeed": deepspeed_config(given) or {}})
    except (AttributeError, TypeError, ValueError):
        return 0


def share_out(keys: dict[str, Any], args: FcitArguments, processes: int) -> None:
    """Work out LLaMA-Factory's two keys of a step from the records that it shall take (``fcit_batch_size``).

    Args:
        keys: LLaMA-Factory's keys; changed in place.
        args: Ours.
        processes: Processes that share each step.

    Raises:
        FcitError: The records cannot be shared out evenly, or the recipe says two different numbers.
    """
    size = args.fcit_batch_size
    if size is None:
        return
    if size % processes:
        refuse(
            f"`fcit_batch_size: {size}` cannot be shared out evenly to the {processes} processes of this run; take a multiple "
            f"of {processes}, or other processes (NPROC_PER_NODE)."
        )
        return
    own, most = size // processes, keys.get("per_device_train_batch_size", _BATCH)
    given = keys.get("gradient_accumulation_steps")
    if given is not None:
        if given * most * processes != size:
            refuse(
                f"`fcit_batch_size: {size}` is not {processes} processes x {most} (`per_device_train_batch_size`) x {given} "
                f"(`gradient_accumulation_steps`) = {processes * most * given} records; take the last key out, which is then "
                "worked out."
            )
        return
    device = max(count for count in range(1, min(own, most) + 1) if own % count == 0)
    keys["per_device_train_batch_size"], keys["gradient_accumulation_steps"] = device, own // device
