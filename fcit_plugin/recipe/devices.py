"""What a dry run takes out of a recipe, because parsing it would ask for the devices of the real run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from typing_extensions import TypedDict

from ..errors import FcitError
from ..files import read_as
from ..schema import Count

#: Keys that LLaMA-Factory accepts only where DeepSpeed's processes or a GPU are.
NEED_DEVICES = ("deepspeed", "fp16", "pure_bf16", "quantization_bit")


class _Zero(TypedDict, total=False):
    stage: Count


class _DeepSpeed(TypedDict, total=False):
    zero_optimization: _Zero


def set_aside(recipe: dict[str, Any]) -> dict[str, Any]:
    """Take these keys out of a recipe, so that it can be parsed on any machine.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.

    Returns:
        What was taken out; ``deepspeed`` as the configuration that its file holds.

    Raises:
        FcitError: The DeepSpeed file is missing or not JSON.
    """
    aside = {key: recipe.pop(key) for key in NEED_DEVICES if recipe.get(key) is not None}
    recipe["use_cpu"] = True
    if "deepspeed" in aside:
        aside["deepspeed"] = deepspeed_config(aside["deepspeed"])
    return aside


def deepspeed_config(given: Any) -> Any:
    """What the key ``deepspeed`` holds, or the file that it names.

    Raises:
        FcitError: The file is missing or not JSON.
    """
    if not isinstance(given, str):
        return given
    return cast("dict[str, Any]", read_as(_DeepSpeed, Path(given), "name a DeepSpeed configuration in `deepspeed`"))


def zero_stage(aside: Mapping[str, Any]) -> int:
    """ZeRO stage of the DeepSpeed configuration; 0 without DeepSpeed."""
    return int(aside.get("deepspeed", {}).get("zero_optimization", {}).get("stage", 0))


def num_processes(world_size: int) -> int:
    """Processes of the real run: those that are there, or those that LLaMA-Factory's own variables ask for.

    Args:
        world_size: Processes of this run.

    Raises:
        FcitError: A variable holds no number; the sentence names it.
    """
    if world_size > 1:
        return world_size
    return _number_in("NPROC_PER_NODE") * _number_in("NNODES")


def _number_in(name: str) -> int:
    given = os.environ.get(name, "1")
    if not given.isdecimal() or int(given) < 1:
        raise FcitError(f"The environment variable {name} is {given!r}; a dry run counts with a number of processes, give one.")
    return int(given)
