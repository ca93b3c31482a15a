"""Values of LLaMA-Factory's own keys: those that would fail late, or without their key being named, are refused at once.

For the fcit stages alone; a recipe of another stage is LLaMA-Factory's own business.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, get_type_hints

from ..arguments.option import check_text, check_type
from ..arguments.reasons import refuse
from ..errors import closest

#: The least value of a key; what is below leads to an error much later, or to a run without a single step.
_LEAST = {
    "lora_rank": 1,
    "lora_alpha": 1,
    "cutoff_len": 1,
    "max_new_tokens": 1,
    "max_samples": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "preprocessing_num_workers": 1,
    "seed": 0,
    "learning_rate": 0,
    "lora_dropout": 0,
}

#: Keys of texts that LLaMA-Factory takes as lists, too, or as a mapping.
_OF_SEVERAL = frozenset(
    {
        *("dataset", "eval_dataset", "dataset_dir", "interleave_probs", "adapter_name_or_path", "additional_target"),
        *("freeze_trainable_modules", "freeze_extra_modules", "lora_target", "oft_target", "galore_target", "apollo_target"),
    }
)

#: Keys of texts that transformers takes truth values for, too.
_ALSO_TRUTH = frozenset({"resume_from_checkpoint", "fsdp", "debug"})


def check_values(given: Mapping[str, Any], parts: Iterable[type]) -> None:
    """Refuse values of a type, a choice or a size that cannot work.

    LLaMA-Factory's parser takes what YAML gives as it is.

    Args:
        given: The recipe, without our keys.
        parts: LLaMA-Factory's argument classes.

    Raises:
        FcitError: One sentence that names the key.
    """
    for part in parts:
        for name, hint in get_type_hints(part).items():
            if given.get(name) is not None:
                check_type(name, given[name], hint)
                if name not in _ALSO_TRUTH:
                    check_text(name, given[name], hint, several=name in _OF_SEVERAL)
    for name, least in _LEAST.items():
        value = given.get(name)
        if _is_number(value) and not least <= value < math.inf:
            refuse(f"`{name}` must be a number from {least} up, got {value}.")
    epochs, steps = given.get("num_train_epochs", 1), given.get("max_steps", -1)
    if _is_number(epochs) and _is_number(steps) and not 0 < epochs < math.inf and not steps > 0:
        refuse(f"`num_train_epochs` must be greater than 0, got {epochs}; nothing would be trained.")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_template(name: str | None) -> None:
    """Refuse no chat template, or an unknown one, which LLaMA-Factory would look for once the tokenizer is loaded.

    Raises:
        FcitError: One sentence that names the nearest one.
    """
    from llamafactory.data.template import TEMPLATES  # its module is hooked itself: only now

    if name is None:
        refuse("The fcit stages need `template`, the chat template of the model, to find instructions again.")
    elif isinstance(name, str) and name not in TEMPLATES:  # of another type it is refused already
        refuse(f"`template` is {name!r}, which LLaMA-Factory does not have; the nearest one is `{closest(name, TEMPLATES)}`.")
