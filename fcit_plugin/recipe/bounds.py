"""The bounds of a recipe (``fcit_bound``), written as recipes of their own."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ..arguments import FcitArguments
from ..arguments.compression import CompressionArguments
from ..arguments.joined import part_keys
from ..arguments.method import OPEN, SEQUENTIAL
from ..arguments.privacy import PrivacyArguments
from ..arguments.replies import ReplyArguments
from ..arguments.round_order import RoundOrderArguments
from ..arguments.server_rule import ServerRuleArguments
from ..errors import FcitError
from ..knowledge.identity_encoders import ORACLE
from ..scenario.settings import get_scenario

#: LLaMA-Factory's own defaults.
_RANK, _EPOCHS = 8, 3.0


def bound_recipe(recipe: dict[str, Any], fcit: FcitArguments) -> FcitArguments:
    """Turn the recipe of a method into that of its bound.

    - zero_shot: nothing is trained.
    - centralized: one client with the data of all stages at once tunes one LoRA that is as large as a subspace for
      every task, at the same scale: K times the rank, and K times alpha (sqrt(K) times with ``use_rslora``). It passes over
      the data as often as the federated run does on average, and at least once with its ``num_train_epochs``: one training of
      E max(1, R S T / (N K)) epochs (R rounds of S out of N clients in each of T stages, K tasks), or of R S T times
      ``max_steps``.
    - centralized_equal: the same without "at least once": E R S T / (N K) epochs, as many passes as the federated run makes.
    - local: as in the recipe, but clients keep one LoRA of their own and nothing is averaged.
    - oracle: a method that organizes by identity tokens, with tokens that name the task; the server's rules stay the recipe's.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.
        fcit: The fcit keys.

    Returns:
        The fcit keys of the bound.
    """
    if fcit.fcit_bound == "oracle":
        own: dict[str, Any] = {**_no_keys_of("methods"), "fcit_identity_source": "text", "fcit_identity_encoder": ORACLE}
        own |= {"fcit_method": _organizing_method(fcit), "fcit_identity_noise": None, "fcit_identity_form": "full"}
        own |= {"fcit_similarity_threshold": 0.9, "fcit_max_subspaces": None, "fcit_activation": "argmax"}
        own |= {"fcit_later_rounds": OPEN, "fcit_max_new_subspaces": None}  # each task opens its own, whenever it comes
        with _said_of_the_bound("oracle", own["fcit_method"]):
            return dataclasses.replace(fcit, **own)
    # what happens to updates, of which there are none, and what belongs to the method
    server = (ReplyArguments, PrivacyArguments, RoundOrderArguments, ServerRuleArguments, CompressionArguments)
    alone: dict[str, Any] = {item.name: item.default for group in server for item in dataclasses.fields(group)}
    alone |= {**_no_keys_of("methods"), **_no_keys_of("server_rules")}
    alone |= {"fcit_method": SEQUENTIAL, "fcit_max_subspaces": None, "fcit_max_new_subspaces": None, "fcit_activation": None}
    if fcit.fcit_bound == "zero_shot":
        return dataclasses.replace(fcit, **alone, fcit_zero_shot=True)
    if fcit.fcit_bound == "local":
        return dataclasses.replace(fcit, **alone)
    scenario = get_scenario(fcit.fcit_setting, fcit.fcit_stages, fcit.fcit_schedule, fcit.fcit_task_order)
    num_tasks = len(scenario.tasks)
    rank = recipe.get("lora_rank") or _RANK
    recipe["lora_rank"] = num_tasks * rank
    alpha = recipe.get("lora_alpha") or 2 * rank
    recipe["lora_alpha"] = _as_whole(alpha * math.sqrt(num_tasks)) if recipe.get("use_rslora") else num_tasks * alpha
    trainings = fcit.fcit_num_rounds * fcit.fcit_clients_per_round * scenario.num_stages
    if (recipe.get("max_steps") or -1) > 0:
        recipe["max_steps"] *= trainings
    passes = trainings / (fcit.fcit_num_clients * num_tasks)
    if fcit.fcit_bound == "centralized":
        passes = max(1, passes)
    recipe["num_train_epochs"] = passes * recipe.get("num_train_epochs", _EPOCHS)
    alone |= {"fcit_partition_column": None, **_no_keys_of("partitioners")}
    return dataclasses.replace(
        fcit,
        **alone,
        fcit_setting="custom",
        fcit_stages=[list(scenario.all_datasets())],  # type: ignore[arg-type]  # the command line has text alone
        fcit_schedule=None,
        fcit_task_order="paper",
        fcit_num_clients=1,
        fcit_clients_per_round=1,
        fcit_num_rounds=1,
        fcit_partition="iid",
        fcit_min_client_samples=1,
    )


@contextlib.contextmanager
def _said_of_the_bound(bound: str, method: str) -> Iterator[None]:
    """What is refused within the block is refused of a method that the bound has chosen, and maybe not the recipe.

    Raises:
        FcitError: The sentence names both.
    """
    try:
        yield
    except FcitError as error:
        raise FcitError(
            f"`fcit_bound: {bound}` gives each task a subspace of its own, by `fcit_method: {method}`. {error}"
        ) from error


def _as_whole(alpha: float) -> float:
    """A number as PEFT's files have it: whole, where it is."""
    return int(alpha) if alpha == int(alpha) else alpha


def _no_keys_of(kind: str) -> dict[str, None]:
    """The keys of all parts of a kind, left out."""
    return {key.name: None for key in part_keys().values() if key.kind == kind}


def _organizing_method(fcit: FcitArguments) -> str:
    """The recipe's method where it organizes subspaces by identity tokens, otherwise the default, which does."""
    return fcit.fcit_method if fcit.part("methods").load().organizes_by_tokens else FcitArguments.fcit_method
