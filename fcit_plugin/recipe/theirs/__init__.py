"""LLaMA-Factory's keys, every one: which work in the fcit stages, which are refused, which have no effect.

The page docs/reference/llamafactory-keys.md is written from this table, and tests walk through it.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ...arguments.reasons import refuse
from .data import DATA, GENERATING
from .finetuning import FINETUNING
from .model import MODEL
from .row import LEARNED, NO_EFFECT, REFUSED, REFUSES, SAME, WORKS, Row
from .training import BY_LOSS, TRAINING

__all__ = [
    "BELONG_TO", "LEARNED", "NO_EFFECT", "OF_STAGES", "REFUSED", "REFUSES", "SAME", "TABLE", "WORKS", "Row",
    "refuse_keys", "settable", "without_effect",
]  # fmt: skip

#: By the name of LLaMA-Factory's argument class.
TABLE: Mapping[str, Mapping[str, Row]] = {
    "ModelArguments": MODEL,
    "DataArguments": DATA,
    "TrainingArguments": TRAINING,
    "FinetuningArguments": FINETUNING,
    "GeneratingArguments": GENERATING,
}


def settable(part: type) -> list[dataclasses.Field[Any]]:
    """The fields of an argument class that a recipe can name."""
    return [item for item in dataclasses.fields(part) if item.init]


def refuse_keys(recipe: dict[str, Any], known: Iterable[type]) -> None:
    """Refuse the keys that cannot be used in the fcit stages, and take them out.

    Args:
        recipe: LLaMA-Factory's keys; changed in place.
        known: Its argument classes.

    Raises:
        FcitError: There are some; the sentence names the key.
    """
    for name, row in _given(recipe, known):
        if row.test == REFUSES:
            shown = f"{name}: false" if recipe.pop(name) is False else name
            refuse(f"`{shown}` cannot be used with the fcit stages: {row.words}.")
    schedule = recipe.get("lr_scheduler_type")
    if schedule in BY_LOSS:
        recipe.pop("lr_scheduler_type")  # transformers would ask for an evaluation, which is none of the Trainer's here
        refuse(
            f"`lr_scheduler_type: {schedule}` cannot be used with the fcit stages: it goes by evaluations within a training, "
            "which clients do not have; take one that goes by steps, such as `cosine`."
        )


#: Keys that mean something beside another one alone, by patterns of their names.
BELONG_TO = {
    "use_llama_pro": "freeze_trainable_layers",
    "use_eaft_loss": "eaft_alpha",
    "loraplus_lr_ratio": "loraplus_lr_embedding",
    "quantization_bit": "quantization_*",
    "use_swanlab": "swanlab_*",
    "enable_torch_profiler": "profiler_*",
    "push_to_hub": "hub_*",
}
#: The same by the values of ``fcit_local_stage``.
OF_STAGES = {"dpo": ("pref_*", "dpo_*", "simpo_*", "ld_alpha"), "kto": ("pref_beta", "pref_ftx", "kto_*")}
#: Keys of what the whole loop does beside training.
OF_LOOP = (
    "report_to", "logging_dir", "run_name", "project", "trackio_*", "*swanlab*", "eval_dataset", "per_device_eval_batch_size",
    "max_new_tokens", "save_total_limit",
)  # fmt: skip


def without_effect(recipe: Mapping[str, Any], known: Iterable[type], stage: str, local_stage: str) -> dict[str, str]:
    """The keys of a recipe that have no effect, and why.

    Args:
        recipe: LLaMA-Factory's keys.
        known: Its argument classes.
        stage: The fcit stage.
        local_stage: The recipe's ``fcit_local_stage``.
    """
    found = {}
    for name, row in _given(recipe, known):
        if row.status == NO_EFFECT:
            found[name] = row.words
        for owner, pattern in BELONG_TO.items():
            if name != owner and fnmatchcase(name, pattern) and not recipe.get(owner):
                found[name] = f"it belongs to `{owner}`"
        stages = [stage for stage, patterns in OF_STAGES.items() if any(fnmatchcase(name, one) for one in patterns)]
        if stages and local_stage not in stages:
            found[name] = f"it belongs to `fcit_local_stage` {' or '.join(stages)}"
        if stage != "fcit" and any(fnmatchcase(name, pattern) for pattern in OF_LOOP):
            found[name] = "it belongs to `stage: fcit`"
    return found


def _given(recipe: Mapping[str, Any], known: Iterable[type]) -> list[tuple[str, Row]]:
    """The keys of a recipe that are not at their default, with their rows."""
    return [
        (item.name, row)
        for part in known
        for item in settable(part)
        if (row := TABLE[part.__name__].get(item.name)) is not None
        and recipe.get(item.name) is not None
        and recipe[item.name] != _default(item)
    ]


def _default(item: dataclasses.Field[Any]) -> Any:
    value = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
    return value.value if isinstance(value, enum.Enum) else value
