"""A LLaMA-Factory recipe becomes one of ours: model, LoRA, data and training are kept; what is changed is said."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..arguments import FCIT_STAGES
from ..arguments.method import MethodArguments
from ..arguments.option import comma_separated
from ..errors import FcitError, nearest
from ..recipe.evaluation import ASKING
from ..recipe.ordinary import classes, left_out
from ..recipe.values import check_values
from ..shipped import shipped
from .draft import Draft

#: Keys that recipes of LLaMA-Factory's new trainer (``USE_V1=1``) begin with, and those of the usual one do not have.
_V1 = ("model_class", "peft_config", "dist_config", "kernel_config", "train_dataset")
#: Keys of how a client is trained, which mean more in a federation than in a tuning of one model.
_EACH_TIME = ("num_train_epochs", "max_steps", "learning_rate", "warmup_ratio", "warmup_steps")


def from_llamafactory(keys: Mapping[str, Any], path: Path, with_data: bool = False) -> tuple[Draft, list[str]]:
    """Begin a recipe of ours from one of LLaMA-Factory's.

    Args:
        keys: Theirs.
        path: Where they stand, for messages.
        with_data: Data of the user's own take the place of its datasets.

    Returns:
        The recipe without what it says of clients and stages, and the datasets.

    Raises:
        FcitError: It is no recipe for a LoRA tuning; the sentence says what it is.
    """
    _refuse_ours(keys.get("stage"), path)
    _refuse_v1(keys, path)
    check_values(keys, classes())
    draft = of_training(keys, path)
    datasets = draft.keys.pop("dataset", None) or []
    if not datasets and not with_data:
        raise FcitError(f"{path} names no `dataset`, which a federation would share out; name one, or give --data FILE.")
    if not isinstance(datasets, str | list):
        raise FcitError(f"{path}: `dataset` is {datasets!r}, which names no datasets; list them, or separate them by commas.")
    names = [str(name) for name in datasets] if isinstance(datasets, list) else comma_separated(datasets)
    draft.keys["output_dir"] = f"{str(draft.keys.get('output_dir', 'saves/tuned')).rstrip('/')}_fcit"
    draft.say(f"`output_dir` is {draft.keys['output_dir']}, so that what is in yours stays.")
    return draft, names


def of_training(keys: Mapping[str, Any], where: Path | str) -> Draft:
    """Have a client train as LLaMA-Factory's keys say, and take out what a federation has no use for.

    Args:
        keys: Theirs.
        where: Where they stand, for messages.

    Raises:
        FcitError: They are no recipe for a LoRA tuning; the sentence says what they are.
    """
    draft = Draft({key: value for key, value in keys.items() if value is not None})
    stage = _local_stage(draft.keys, where)
    draft.put("stage", "fcit")
    draft.put("fcit_local_stage", stage, "what trains a client")
    draft.put("finetuning_type", "lora")
    draft.put("do_train", True)
    draft.say(f"`stage: {stage}` is now `fcit_local_stage: {stage}` of `stage: fcit`: each client is trained in this way.")
    _take_evaluation(draft)
    _take_deepspeed(draft, where)
    for reason, gone in _by_reason(left_out(draft.keys, stage)).items():
        for key in gone:
            draft.keys.pop(key)
        draft.say(f"Left out: {', '.join(f'`{key}`' for key in gone)} ({reason}).")
    if draft.keys.pop("resume_from_checkpoint", None):
        draft.say("Left out: `resume_from_checkpoint` (a run that is started again goes on by itself).")
    return draft


def _refuse_v1(keys: Mapping[str, Any], path: Path | str) -> None:
    if found := [f"`{key}`" for key in _V1 if key in keys]:
        raise FcitError(
            f"{path} is a recipe for LLaMA-Factory's new trainer (USE_V1=1; {', '.join(found)}), which has no stages; name one "
            "of the usual kind, with `model_name_or_path`, `stage` and `dataset`."
        )


def _local_stage(keys: dict[str, Any], path: Path | str) -> str:
    """Take the stage of the local training out; refuse a recipe that is for something else."""
    stage, kind = keys.pop("stage", "sft"), keys.get("finetuning_type", "lora")
    _refuse_ours(stage, path)
    (told,) = (item.metadata for item in fields(MethodArguments) if item.name == "fcit_local_stage")
    if stage not in told["choices"]:
        why = told["choices"].unfit.get(stage) or f"clients cannot be trained with; {nearest(str(stage), told['choices'])}"
        raise FcitError(f"{path} has `stage: {stage}`, which {why}")
    if kind != "lora":
        raise FcitError(f"{path} has `finetuning_type: {kind}`; clients train LoRA adapters, set `finetuning_type: lora`.")
    if not keys.get("do_train", False):
        raise FcitError(f"{path} trains nothing (no `do_train: true`); name the recipe that you would tune the model with.")
    if keys.get("adapter_name_or_path"):
        raise FcitError(
            f"{path} goes on from an adapter (`adapter_name_or_path`), and a federation begins with new ones; merge it into "
            "the model with `llamafactory-cli export`, name the merged model, and take the key out."
        )
    return str(stage)


def _refuse_ours(stage: Any, path: Path | str) -> None:
    if stage in FCIT_STAGES:
        call = shlex.join(["fcit-cli", "train", str(path)])
        raise FcitError(f"{path} is a recipe of this plugin already (`stage: {stage}`); `{call}` runs it.")


def _take_evaluation(draft: Draft) -> None:
    """A run evaluates in its own way, with test records."""
    gone = [key for key, nothing in ASKING.items() if draft.keys.pop(key, None) not in nothing]
    gone += [key for key in ("eval_steps", "eval_delay", "eval_on_start") if draft.keys.pop(key, None) is not None]
    if gone:
        shown = ", ".join(f"`{key}`" for key in gone)
        draft.say(f"`fcit_eval_every: stage` takes the place of {shown}: all datasets seen are scored after each stage.")


def _take_deepspeed(draft: Draft, path: Path | str) -> None:
    """Find the file of DeepSpeed, which their recipes name relative to LLaMA-Factory's own checkout."""
    given = draft.keys.get("deepspeed")
    if not isinstance(given, str) or Path(given).is_file():
        return
    ours = shipped("recipes") / "deepspeed" / Path(given).name
    if not ours.is_file():
        raise FcitError(f"{path} names `deepspeed: {given}`, which is not there; correct it, or take the key out.")
    draft.keys["deepspeed"] = str(ours)
    draft.say(f"`deepspeed` is {ours}, for there is no {given} here.")


def share_out_training(draft: Draft, rounds: int) -> None:
    """Say what their keys of training mean with many clients, and make passes over the data out of rounds.

    Args:
        draft: The recipe.
        rounds: Rounds of a stage.
    """
    epochs = draft.keys.get("num_train_epochs", 3.0)
    if draft.keys.get("max_steps", -1) <= 0 and isinstance(epochs, (int, float)) and epochs > 1:
        each = max(round(epochs / rounds, 2), 0.01)
        draft.put("num_train_epochs", each, "of each client in each round")
        draft.say(
            f"`num_train_epochs` was {epochs:g} and is {each:g}, for a client trains in each of the {rounds} rounds "
            "of a stage that it is drawn in."
        )
    kept = ", ".join(f"`{key}`" for key in _EACH_TIME if key in draft.keys)
    draft.say(
        f"{kept} are those of one client in one round." if kept else "Training keys are those of one client in one round."
    )


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        found.setdefault(reason, []).append(key)
    return found
