"""What was filled in becomes a recipe. No gradio."""

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from ..arguments import FcitArguments
from ..drafts.draft import Draft
from ..drafts.federation import CLIENTS, ROUNDS, TEST_SHARE, catalogue_of, parse_stages
from ..drafts.from_llamafactory import of_training
from ..drafts.methods import put_method
from ..files import parse_json
from ..parts import KINDS
from ..recipe.ordinary import check_whole
from .refusals import Refusal
from .widgets import AXES, Widget, core_widget, part_widgets

#: Keys of every run that have a widget, and what stands there at first where it is not the key's default.
CORE: Mapping[str, Any] = {
    "fcit_setting": "custom",
    "fcit_num_clients": CLIENTS,
    "fcit_clients_per_round": CLIENTS,
    "fcit_num_rounds": ROUNDS,
    "fcit_partition": "iid",
    "fcit_beta": None,
    "fcit_partition_column": None,
    "fcit_min_client_samples": 10,
    "fcit_engine": None,
    "fcit_clients_per_device": None,
    "fcit_eval_samples": 100,
}
#: Values of the form that fill in no single ``fcit_*`` key, and what stands there at first.
OTHERS: Mapping[str, Any] = {
    "dataset_dir": "data",
    "fcit_stages": "",
    "fcit_test": TEST_SHARE,
    "max_new_tokens": 32,
    "fcit_extra_args": "",
}
_TRAIN_TAB = "LLaMA Board's tab Train"
#: LLaMA Board gives each training these, whatever the user does, and a federation has no use for them.
_NOT_THE_USERS = ("plot_loss", "include_num_input_tokens_seen", "save_steps", "preprocessing_num_workers", "eval_steps")
_HINTS = get_type_hints(FcitArguments)
#: Keys of ours for which null is a value, such as no bound, and another one than the default; elsewhere it is none at all.
MAY_BE_NOTHING = frozenset(
    item.name for item in fields(FcitArguments) if item.default is not None and NoneType in get_args(_HINTS[item.name])
)
#: In a recipe also at their defaults, for that is what it is about.
_ALWAYS = ("fcit_setting", "fcit_num_clients", "fcit_clients_per_round", "fcit_num_rounds", "fcit_partition")


def widgets() -> dict[str, Widget]:
    """All widgets of the form, by key: of the run, and of each axis the choice and its parts' keys."""
    choices = [str(KINDS[kind][0]) for kind in AXES]
    found = [core_widget(key, value) for key, value in CORE.items()] + [core_widget(key) for key in choices]
    return {widget.key: widget for widget in [*found, *(widget for kind in AXES for widget in part_widgets(kind))]}


def own_keys(choice: str, chosen: str) -> dict[str, tuple[bool, Any]]:
    """For each key of an axis's parts whether the chosen part has it, and its default there.

    Args:
        choice: The key that chooses, as ``fcit_method``.
        chosen: Its value.
    """
    of_axis = [widget for widget in widgets().values() if widget.choice == choice]
    return {widget.key: (chosen in widget.owners, widget.owners.get(chosen)) for widget in of_axis}


def recipe_of(training: Mapping[str, Any], values: Mapping[str, Any], output_dir: str) -> Draft:
    """The recipe of a run.

    Args:
        training: LLaMA-Factory's keys, as its own tab makes them.
        values: What was filled in: by key, and those of :data:`OTHERS`.
        output_dir: The run's output folder.

    Raises:
        FcitError: Something is missing or cannot be; the sentence names it.
    """
    kept = {key: value for key, value in training.items() if key not in _NOT_THE_USERS}
    earlier = kept.pop("adapter_name_or_path", None)
    for key in ("dataset", "output_dir", "val_size"):
        kept.pop(key, None)
    draft = of_training(kept, _TRAIN_TAB)
    if earlier:
        draft.put("adapter_name_or_path", earlier, "the run that this one goes on from")
    draft.keys |= {"output_dir": output_dir, "dataset_dir": values["dataset_dir"]}
    if values["max_new_tokens"]:
        draft.put("max_new_tokens", int(values["max_new_tokens"]), "tokens of an answer")
    _put_stages(draft, values)
    put_method(draft, values["fcit_method"])
    _put_keys(draft, values)
    for key, value in _extra(values["fcit_extra_args"]).items():
        if value is None and key not in MAY_BE_NOTHING:
            draft.keys.pop(key, None)
        else:
            draft.put(key, value)
    return draft


def check(keys: Mapping[str, Any]) -> None:
    """Refuse a recipe that cannot begin, as far as that is seen before anything is loaded.

    Args:
        keys: The recipe.

    Raises:
        FcitError: One sentence that names the key or the dataset.
        ValueError: The same of LLaMA-Factory's.
    """
    check_whole(keys)
    names = [name for stage in keys.get("fcit_stages") or () for name in stage]
    scored = keys.get("fcit_eval_every") != "never" and "eval_dataset" not in keys
    catalogue_of(dict(keys)).check(names, with_test=scored, local_stage=keys["fcit_local_stage"])


def _put_stages(draft: Draft, values: Mapping[str, Any]) -> None:
    if values["fcit_setting"] != "custom":
        return
    stages = [stage for stage in parse_stages(values["fcit_stages"] or "") if stage]
    if not stages:
        raise Refusal("no_stages")
    draft.put("fcit_stages", stages, "what arrives when; datasets in one bracket arrive together")
    test = values["fcit_test"]
    if test:
        size = int(test) if float(test) >= 1 else float(test)
        draft.put("val_size", size, "of each dataset without test records of its own, trained on by nobody")


def _put_keys(draft: Draft, values: Mapping[str, Any]) -> None:
    """Put in what was filled in, but for keys at their defaults and those of parts that are not chosen."""
    defaults = {item.name: item.default for item in fields(FcitArguments)}
    for key, widget in widgets().items():
        value = widget.read(values.get(key))
        if value is None or key == "fcit_method":
            continue
        if not widget.owners:
            if value != defaults[key] or key in _ALWAYS:
                draft.put(key, value)
        elif (chosen := values[widget.choice]) in widget.owners and (key in draft.keys or value != widget.owners[chosen]):
            draft.put(key, value, draft.comments.get(key, ""))


def _extra(text: str | None) -> dict[str, Any]:
    if not (text or "").strip():
        return {}
    try:
        extra = parse_json(str(text))
    except ValueError as error:
        raise Refusal("no_json", error=error) from error
    if not isinstance(extra, dict):
        raise Refusal("no_object")
    return extra
