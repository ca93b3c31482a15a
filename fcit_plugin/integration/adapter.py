"""Seam: ``llamafactory.model.adapter.init_adapter``.

Training: the LoRA that LLaMA-Factory makes is the one subspace in training; the projector is unfrozen as
``freeze_multi_modal_projector: false`` says, which LLaMA-Factory's own LoRA tuning does not heed.
"""

import inspect

import torch
import wrapt


def install(adapter_module) -> None:
    """Wrap ``init_adapter``."""
    signature = inspect.signature(adapter_module.init_adapter)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        finetuning_args = given["finetuning_args"]
        model = wrapped(*args, **kwargs)
        if getattr(finetuning_args, "fcit_stage", None) and given["is_trainable"]:
            unfreeze_projector(model, finetuning_args)
        return model

    wrapt.wrap_function_wrapper(adapter_module, "init_adapter", wrapper)


def unfreeze_projector(model: torch.nn.Module, finetuning_args) -> None:
    """Make the multimodal projector trainable, in float32, unless the recipe freezes it."""
    from llamafactory.model.model_utils.visual import COMPOSITE_MODELS

    composite = COMPOSITE_MODELS.get(getattr(model.config, "model_type", None))
    if composite is None or finetuning_args.freeze_multi_modal_projector:
        return
    for name, parameter in model.named_parameters():
        if any(key in name for key in composite.projector_keys) and "lora_" not in name:
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()
