"""Which of LLaMA-Factory's options, and which keys of ours, cannot go together in an fcit stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arguments import FcitArguments
from ..errors import FcitError
from ..plugins import registry
from .devices import zero_stage
from .values import check_template

#: What some methods and rules do to a client's training.
_WHOLE_GRADIENTS = "adds to gradients, which must be whole and not scaled"


def check_combination(
    model_args,
    data_args,
    training_args,
    finetuning_args,
    fcit: FcitArguments,
    earlier: Path | None = None,
    aside: Mapping[str, Any] | None = None,
) -> None:
    """Refuse LLaMA-Factory options that the federated loop cannot honour, rather than ignore them.

    Args:
        model_args, data_args, training_args, finetuning_args: LLaMA-Factory's.
        fcit: Ours.
        earlier: Folder of the run that this one goes on from.
        aside: What a dry run took out of the recipe, see :func:`.devices.set_aside`.

    Raises:
        FcitError: One sentence that names the key.
    """
    if data_args.template is None:
        raise FcitError("The fcit stages need `template`, the chat template of the model, to find instructions again.")
    check_template(data_args.template)
    refused = {
        "streaming": data_args.streaming,
        "val_size": data_args.val_size,
        "eval_dataset": data_args.eval_dataset,
        "tokenized_path": data_args.tokenized_path,
        "additional_target": finetuning_args.additional_target,
        "use_dora": finetuning_args.use_dora,
        "ref_model": finetuning_args.ref_model,
        "pissa_init": finetuning_args.pissa_init,
        "early_stopping_steps": finetuning_args.early_stopping_steps,
        "use_unsloth": model_args.use_unsloth,
        "resize_vocab": model_args.resize_vocab,
        "freeze_vision_tower: false": not finetuning_args.freeze_vision_tower,
    }
    for key, value in refused.items():
        if value:
            raise FcitError(f"`{key}` cannot be used with the fcit stages yet; leave it out of the recipe.")
    _check_method(model_args, training_args, finetuning_args, fcit, aside or {})
    _check_packing(model_args, data_args, training_args, fcit)
    if fcit.fcit_projector_learning_rate is not None and finetuning_args.freeze_multi_modal_projector:
        raise FcitError("`fcit_projector_learning_rate` needs `freeze_multi_modal_projector: false`: the projector is frozen.")
    if earlier is not None and fcit.fcit_reference:
        raise FcitError("`fcit_reference` is a bound from the untuned model on; take `adapter_name_or_path` out.")
    _check_folders(training_args.output_dir, fcit, earlier)


def _check_method(model_args, training_args, finetuning_args, fcit: FcitArguments, aside: Mapping[str, Any]) -> None:
    """Refuse what the continual method, the server rule or the LoRA aggregation cannot train with.

    Raises:
        FcitError: One sentence that names both keys.
    """
    method, rule = registry("methods")[fcit.fcit_method], fcit.fcit_server_rule
    deepspeed, fp16 = training_args.deepspeed or aside.get("deepspeed"), training_args.fp16 or aside.get("fp16")
    clashes = [("deepspeed", deepspeed, f"fcit_method: {fcit.fcit_method}", method.no_deepspeed)]
    if rule in ("fedprox", "scaffold"):
        clashes.append(("deepspeed", deepspeed, f"fcit_server_rule: {rule}", _WHOLE_GRADIENTS))
        clashes.append(("fp16", fp16, f"fcit_server_rule: {rule}", _WHOLE_GRADIENTS))
    if fcit.fcit_method in ("ewc", "o_lora"):
        clashes.append(("fp16", fp16, f"fcit_method: {fcit.fcit_method}", _WHOLE_GRADIENTS))
    if fcit.fcit_method == "moe_lora" and finetuning_args.lora_rank % fcit.fcit_num_experts:
        raise FcitError(
            f"`lora_rank: {finetuning_args.lora_rank}` cannot be divided into {fcit.fcit_num_experts} experts; change it or "
            "`fcit_num_experts`."
        )
    supervised = fcit.fcit_local_stage == "sft"
    clashes.append(("fcit_local_stage", not supervised, f"fcit_method: {fcit.fcit_method}", method.only_supervised))
    if fcit.fcit_method == "lwf":
        why = "takes the model's logits, which this loss keeps to itself"
        clashes.append(("use_asft_loss", finetuning_args.use_asft_loss, "fcit_method: lwf", why))
    if fcit.fcit_dp_clipping_norm is not None:
        why = "has clients send more than their clipped update"
        clashes.append(("fcit_dp_clipping_norm", fcit.fcit_method == "ewc", "fcit_method: ewc", why))
        clashes.append(("fcit_dp_clipping_norm", rule == "scaffold", "fcit_server_rule: scaffold", why))
    engine = getattr(training_args, "hf_deepspeed_config", None)
    zero3 = engine.is_zero3() if engine is not None else zero_stage(aside) == 3
    if registry("lora_aggregations")[fcit.fcit_lora_aggregation]().changes_base:
        ours = f"fcit_lora_aggregation: {fcit.fcit_lora_aggregation}"
        why = "changes the base weights, which ZeRO-3 divides among the processes"
        clashes.append(("deepspeed", zero3, ours, why))
        why = "changes the base weights, which are not there in full precision"
        clashes.append(("quantization_bit", model_args.quantization_bit or aside.get("quantization_bit"), ours, why))
        why = "changes the base weights, which preferences are compared with"
        clashes.append(("fcit_local_stage", not supervised, ours, why))
    if fcit.fcit_identity_source != "text":
        why = "asks the vision tower, which ZeRO-3 divides among the processes"
        clashes.append(("deepspeed", zero3, f"fcit_identity_source: {fcit.fcit_identity_source}", why))
    if method.reports_kinds:
        why = "has clients tell their kinds of instructions, without noise"
        clashes.append(("fcit_identity_noise", fcit.fcit_identity_noise, f"fcit_method: {fcit.fcit_method}", why))
    for key, given, ours, why in clashes:
        if given and why is not None:
            raise FcitError(f"`{key}` cannot be used with `{ours}`, which {why}; leave it out, or change the other.")


def _check_packing(model_args, data_args, training_args, fcit: FcitArguments) -> None:
    if not data_args.packing:
        return
    key = "neat_packing" if data_args.neat_packing else "packing"
    if fcit.fcit_local_stage != "sft":
        raise FcitError(
            f"`{key}` cannot be used with `fcit_local_stage: {fcit.fcit_local_stage}`, whose answers are compared record by "
            "record; leave it out of the recipe."
        )
    if fcit.fcit_method == "ewc":
        raise FcitError(
            f"`{key}` cannot be used with `fcit_method: ewc`, which measures record by record; leave one of them out."
        )
    if (data_args.cutoff_len + 1) % 8:  # LLaMA-Factory has taken one off
        raise FcitError(
            f"`cutoff_len` is {data_args.cutoff_len + 1}; with `{key}` it must be a multiple of 8, to which LLaMA-Factory "
            "fills sequences up."
        )
    batch = training_args.per_device_train_batch_size
    if data_args.neat_packing and model_args.flash_attn == "fa2" and batch > 1:
        raise FcitError(
            f"`per_device_train_batch_size` is {batch}; `neat_packing` with `flash_attn: fa2` needs 1, and "
            "`gradient_accumulation_steps` for the rest."
        )


def _check_folders(output_dir: str, fcit: FcitArguments, earlier: Path | None) -> None:
    taken = {"fcit_state_dir": [fcit.fcit_state_dir], "fcit_update_dirs": fcit.fcit_update_dirs or []}
    taken["adapter_name_or_path"] = [earlier]
    if fcit.fcit_client_dir is not None and Path(fcit.fcit_client_dir).resolve().is_relative_to(Path(output_dir).resolve()):
        raise FcitError(
            f"`fcit_client_dir` {fcit.fcit_client_dir} is for the client alone, and `output_dir` {output_dir} goes to the "
            "server; name a folder outside of it."
        )
    for key, folders in taken.items():
        for folder in folders:
            if folder is not None and Path(folder).resolve() == Path(output_dir).resolve():
                raise FcitError(f"`output_dir` is the folder of `{key}` ({folder}), which it would overwrite; name another.")
