"""Seam: ``llamafactory.model.adapter.init_adapter``.

Training: the LoRA that LLaMA-Factory makes is the one subspace in training; the projector is unfrozen as
``freeze_multi_modal_projector: false`` says, which LLaMA-Factory's own LoRA tuning does not heed.

Inference: the output folder of an fcit run as ``adapter_name_or_path`` gives routed subspaces, or a merged model.
"""

import inspect
from pathlib import Path

import torch
import wrapt

#: The file that makes a folder an FCIT folder; as in ``federation.state``, which would import Flower here.
MANIFEST = "fcit_manifest.json"


def install(adapter_module) -> None:
    """Wrap ``init_adapter``."""
    signature = inspect.signature(adapter_module.init_adapter)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        finetuning_args = given["finetuning_args"]
        folder = fcit_folder(given["model_args"].adapter_name_or_path)
        if folder is not None:
            from .serving import load_fcit_folder

            export_weights = getattr(getattr(finetuning_args, "fcit", None), "fcit_export_weights", None)
            return load_fcit_folder(given["model"], folder, given["model_args"], export_weights)
        model = wrapped(*args, **kwargs)
        if getattr(finetuning_args, "fcit_stage", None) and given["is_trainable"]:
            unfreeze_projector(model, finetuning_args)
        return model

    wrapt.wrap_function_wrapper(adapter_module, "init_adapter", wrapper)


def fcit_folder(adapters: list[str] | None) -> Path | None:
    """The output folder of an fcit run among the adapters, if there is one.

    Raises:
        ValueError: There are other adapters beside it.
    """
    found = [Path(adapter) for adapter in adapters or [] if (Path(adapter) / MANIFEST).is_file()]
    if found and len(adapters) > 1:
        raise ValueError(f"`adapter_name_or_path`: the FCIT folder {found[0]} cannot be combined with other adapters.")
    return found[0] if found else None


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
