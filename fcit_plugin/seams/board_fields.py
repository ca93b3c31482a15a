"""A recipe in LLaMA Board's own fields: the reverse of ``Runner._parse_train_args``, as far as there is one.

Whoever asks makes a recipe of the fields again and sees what is missing, so nothing here has to be complete.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from llamafactory.extras.constants import TRAINING_STAGES

#: Elements that are called otherwise than the key that they fill in.
_KEYS = {
    "top.model_path": "model_name_or_path",
    "train.batch_size": "per_device_train_batch_size",
    "train.neftune_alpha": "neftune_noise_alpha",
}
#: Elements that stay as they are: the user's language, what is said elsewhere, and the model's name, which would fill in a path
#: and a template of its own.
_STAY = (
    *("top.lang", "top.model_name", "top.hub_name"),
    *(f"train.{name}" for name in ("dataset_dir", "dataset", "output_dir", "config_path", "current_time", "device_count")),
)
#: Elements that hold none of a recipe's keys once it is loaded: what would stand there is said by the key itself.
_EMPTY = {
    "top.checkpoint_path": [],
    "train.extra_args": "{}",
    "train.val_size": 0,
    "train.ds_stage": "none",
    "train.ds_offload": False,
}
#: The field that LLaMA Board changes others after, and the keys of these.
_STAGE, AFTER_STAGE = "train.training_stage", ("packing",)
_STAGES = {value: name for name, value in TRAINING_STAGES.items()}


def fields_of(
    elements: Mapping[str, Any], keys: Mapping[str, Any], defaults: Mapping[str, Any], now: Mapping[Any, Any]
) -> tuple[dict[Any, Any], Sequence[str]]:
    """What stands in LLaMA Board's fields for a recipe.

    Args:
        elements: The fields that say how to train, by their ids.
        keys: The recipe, with the stage of the local training.
        defaults: What a key is where the recipe does not have it.
        now: What stands in the fields now.

    Returns:
        By element its value, its first one where it cannot hold the recipe's; and the keys whose fields LLaMA Board itself
        changes once it sees these.
    """
    made = {**_EMPTY, **_choices({**defaults, **keys})}
    found = {}
    for name, element in elements.items():
        key = _KEYS.get(name, name.rpartition(".")[2])
        if name in _STAY or (name not in made and key not in defaults):  # such as the page of a preview
            continue
        value = made[name] if name in made else keys.get(key, defaults.get(key))
        found[element] = _held(element, value)
    stage = elements[_STAGE]
    return found, AFTER_STAGE if found[stage] != now[stage] else ()


def _choices(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Of the elements that hold several keys, or a key in other words."""
    types = [name for name in ("pure_bf16", "bf16", "fp16") if keys.get(name)]
    boosters = {"flashattn2": keys.get("flash_attn") == "fa2"}
    boosters |= {"unsloth": keys.get("use_unsloth"), "liger_kernel": keys.get("enable_liger_kernel")}
    bits, scaling = keys.get("quantization_bit"), keys.get("rope_scaling")
    return {
        "top.finetuning_type": "lora",
        "top.quantization_bit": "none" if bits is None else str(bits),
        "top.rope_scaling": "none" if scaling is None else scaling,
        "top.booster": next((name for name, wanted in boosters.items() if wanted), "auto"),
        "train.compute_type": next(iter(types), "fp32"),
        _STAGE: _STAGES.get(str(keys.get("stage"))),
    }


def _held(element: Any, value: Any) -> Any:
    """The value as an element of its kind holds it; the element's first one where it cannot."""
    first = element.value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(element, gr.Checkbox):
        return value if isinstance(value, bool) else first
    if isinstance(element, gr.Slider | gr.Number):
        least, most = element.minimum, element.maximum
        return value if number and (least is None or least <= value) and (most is None or value <= most) else first
    if isinstance(element, gr.Dropdown):
        if element.multiselect:
            return value if isinstance(value, list) else []
        known = [choice for _, choice in element.choices]
        return value if value in known or (element.allow_custom_value and isinstance(value, str)) else first
    if value is None:  # nothing said, which not every text box may hold
        return first or ""
    return str(value) if number or (isinstance(value, str) and not _is_number(first)) or _is_number(value) else first


def _is_number(text: Any) -> bool:
    """Whether a text is one that LLaMA Board makes a number of."""
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False
