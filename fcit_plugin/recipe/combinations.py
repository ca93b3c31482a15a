"""Which of LLaMA-Factory's options, and which keys of ours, cannot go together in an fcit stage."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arguments import FcitArguments
from ..arguments.joined import PARTS_WITH_KEYS
from ..arguments.reasons import going_on, refuse
from ..arguments.round_order import OF_CLIENT
from ..errors import FcitError, closest
from ..parts import KINDS
from ..plugins import BUILTIN, source
from ..state.folder import StateFolder
from ..state.output_folder import would_lose
from .devices import deepspeed_config, zero_stage

_NOT_ON_EXPERTS = {
    "lora_dropout": "adds the LoRA to the experts' weights, where there is nothing to drop out",
    "enable_liger_kernel": "adds the LoRA to the experts' weights, and these kernels compute experts in a way of their own",
    "quantization_bit": "adds the LoRA to the experts' weights, which are not there in full precision",
    "deepspeed_zero3": "adds the LoRA to the experts' weights, which ZeRO-3 divides among the processes",
}


def check_combination(
    model_args,
    data_args,
    training_args,
    finetuning_args,
    fcit: FcitArguments,
    earlier: Path | None = None,
    aside: Mapping[str, Any] | None = None,
) -> None:
    """Refuse options of LLaMA-Factory's that do not go with each other or with ours, as it has parsed them.

    What a key of its own is refused for stands in :mod:`.theirs`.

    Args:
        model_args: LLaMA-Factory's model arguments.
        data_args: Its data arguments.
        training_args: Its training arguments.
        finetuning_args: Its fine-tuning arguments.
        fcit: Ours.
        earlier: Folder of the run that this one goes on from.
        aside: What a dry run took out of the recipe, see :func:`.devices.set_aside`.

    Raises:
        FcitError: One sentence that names the key.
    """
    _check_parts(model_args, data_args, training_args, finetuning_args, fcit, aside or {})
    _check_base_change(model_args, training_args, earlier, aside or {})
    _check_packing(model_args, data_args, training_args, fcit)
    _check_engines_own(training_args, fcit, aside or {})
    if fcit.fcit_projector_learning_rate is not None and finetuning_args.freeze_multi_modal_projector:
        refuse("`fcit_projector_learning_rate` needs `freeze_multi_modal_projector: false`: the projector is frozen.")
    if earlier is not None and fcit.fcit_bound:
        refuse("`fcit_bound` is a bound from the untuned model on; take `adapter_name_or_path` out.")
    _check_folders(training_args.output_dir, fcit, earlier)


def refuse_new_tokens(model_args: Any) -> None:
    """Refuse keys that make the vocabulary larger, which LLaMA-Factory knows once it has a tokenizer.

    Args:
        model_args: LLaMA-Factory's model arguments, which a tokenizer was loaded with.

    Raises:
        FcitError: The sentence names the key.
    """
    if not model_args.resize_vocab:
        return
    keys = ("new_special_tokens_config", "add_special_tokens", "add_tokens", "resize_vocab")
    key = next(key for key in keys if getattr(model_args, key))
    raise FcitError(
        f"`{key}` makes the vocabulary larger, and the embeddings of new tokens are trained in no subspace; leave it out of "
        "the recipe, and give a base model whose tokenizer and embeddings have these tokens already."
    )


def _check_parts(model_args, data_args, training_args, finetuning_args, fcit: FcitArguments, aside: Mapping[str, Any]) -> None:
    """Refuse what the chosen method, server rule, LoRA aggregation or encoder cannot be combined with.

    Raises:
        FcitError: One sentence that names both keys.
    """
    zero3 = _is_zero3(training_args, aside)
    parts = (model_args, data_args, training_args, finetuning_args, fcit)

    def given(key: str) -> bool:
        if key == "deepspeed_zero3":
            return zero3
        if key in aside:
            return bool(aside[key])
        return any(getattr(part, key, None) not in (None, False, _default(part, key)) for part in parts)

    known = {"deepspeed_zero3", *(item.name for part in parts for item in dataclasses.fields(part))}
    for kind in PARTS_WITH_KEYS:
        part = fcit.part(kind)
        choice, _ = KINDS[kind]
        for key, why in part.cannot_go_with.items():
            if key not in known:
                whose = f"`{choice}: {part.name}` of {part.package}"
                refuse(f"{whose} cannot go with `{key}`, which is not a key; the nearest one is `{closest(key, known)}`.")
            elif given(key):
                _refuse(_shown(key, data_args), f"{choice}: {part.name}", why)
        if (options := fcit.options(kind)) is not None:
            with going_on():
                options.check_training(model_args, data_args, training_args, finetuning_args)
    _check_rule(fcit)
    method = fcit.part("methods")
    if model_args.enable_liger_kernel and method.load().takes_logits():
        why = "takes the model's logits, which these kernels do not compute in training"
        _refuse("enable_liger_kernel", f"fcit_method: {method.name}", why)
    if fcit.fcit_target_parameters:
        ours = f"fcit_target_parameters: {','.join(fcit.fcit_target_parameters)}"
        for key, why in _NOT_ON_EXPERTS.items():
            if given(key):
                _refuse("deepspeed" if key == "deepspeed_zero3" else key, ours, why)
    if fcit.fcit_identity_source != "text" and zero3:
        why = "asks the vision tower, which ZeRO-3 divides among the processes"
        _refuse("deepspeed", f"fcit_identity_source: {fcit.fcit_identity_source}", why)


def _check_rule(fcit: FcitArguments) -> None:
    """Refuse a rule of somebody else's that makes no strategy of Flower's."""
    part = fcit.part("server_rules")
    if part.package == source(BUILTIN):
        return
    from flwr.serverapp.strategy import Strategy  # only now: our own rules are some

    made = part.load()(fcit)
    if not isinstance(made, Strategy):
        refuse(
            f"`fcit_server_rule: {part.name}` of {part.package} made {made!r}, which is no flwr.serverapp.strategy.Strategy; "
            "have it make one."
        )


def _is_zero3(training_args, aside: Mapping[str, Any]) -> bool:
    engine = getattr(training_args, "hf_deepspeed_config", None)
    return bool(engine.is_zero3()) if engine is not None else zero_stage(aside) == 3


def _check_base_change(model_args, training_args, earlier: Path | None, aside: Mapping[str, Any]) -> None:
    """Refuse to go on from changed base weights where there are none that could be changed."""
    if earlier is None or not StateFolder(earlier).manifest["base_change"]:
        return
    what = f"adapter_name_or_path: {earlier}"
    if aside.get("quantization_bit", model_args.quantization_bit) is not None:
        _refuse("quantization_bit", what, "has changed the base weights, which are not there in full precision")
    if _is_zero3(training_args, aside):
        _refuse("deepspeed", what, "has changed the base weights, which ZeRO-3 divides among the processes")


def _default(part: Any, key: str) -> Any:
    """The default of a key, if this is the dataclass that has it."""
    defaults = {item.name: item.default for item in dataclasses.fields(part)}
    return defaults.get(key)


def _shown(key: str, data_args) -> str:
    """The key by the name under which the recipe has it."""
    if key == "packing" and data_args.neat_packing:
        return "neat_packing"  # LLaMA-Factory packs for both
    return "deepspeed" if key == "deepspeed_zero3" else key


def _refuse(key: str, ours: str, why: str) -> None:
    refuse(f"`{key}` cannot be used with `{ours}`, which {why}; leave it out, or change the other.")


def _check_packing(model_args, data_args, training_args, fcit: FcitArguments) -> None:
    if not data_args.packing:
        return
    key = _shown("packing", data_args)
    if fcit.fcit_local_stage != "sft":
        refuse(
            f"`{key}` cannot be used with `fcit_local_stage: {fcit.fcit_local_stage}`, whose answers are compared record by "
            "record; leave it out of the recipe."
        )
    if (data_args.cutoff_len + 1) % 8:  # LLaMA-Factory has taken one off
        refuse(
            f"`cutoff_len` is {data_args.cutoff_len + 1}; with `{key}` it must be a multiple of 8, to which LLaMA-Factory "
            "fills sequences up."
        )
    batch = training_args.per_device_train_batch_size
    if data_args.neat_packing and model_args.flash_attn == "fa2" and batch > 1:
        refuse(
            f"`per_device_train_batch_size` is {batch}; `neat_packing` with `flash_attn: fa2` needs 1, and "
            "`gradient_accumulation_steps` for the rest."
        )


def _check_engines_own(training_args, fcit: FcitArguments, aside: Mapping[str, Any]) -> None:
    """Refuse what is done to an optimizer or a schedule of the Trainer's, where DeepSpeed makes its own."""
    rate = fcit.fcit_projector_learning_rate
    changed = {
        "optimizer": (rate is not None, f"fcit_projector_learning_rate: {rate}", "gives the projector a rate of its own in"),
        "scheduler": (
            fcit.fcit_schedule_over != OF_CLIENT,
            f"fcit_schedule_over: {fcit.fcit_schedule_over}",
            "has clients take pieces of",
        ),
    }
    own = deepspeed_config(aside.get("deepspeed", training_args.deepspeed)) or {}
    for section, (is_changed, ours, what) in changed.items():
        if is_changed and section in own:
            _refuse(
                "deepspeed", ours, f"{what} the Trainer's {section}, and this configuration has one (`{section}`) of its own"
            )


def _check_folders(output_dir: str, fcit: FcitArguments, earlier: Path | None) -> None:
    taken: dict[str, Sequence[str | Path | None]] = {
        "fcit_state_dir": [fcit.fcit_state_dir],
        "fcit_update_dirs": fcit.fcit_update_dirs or [],
    }
    taken["adapter_name_or_path"] = [earlier]
    if fcit.fcit_client_dir is not None and Path(fcit.fcit_client_dir).resolve().is_relative_to(Path(output_dir).resolve()):
        refuse(
            f"`fcit_client_dir` {fcit.fcit_client_dir} is for the client alone, and `output_dir` {output_dir} goes to the "
            "server; name a folder outside of it."
        )
    for key, folders in taken.items():
        for folder in folders:
            if folder is not None and would_lose(output_dir, folder):
                refuse(f"`output_dir` is or holds the folder of `{key}` ({folder}), which it would overwrite; name another.")
