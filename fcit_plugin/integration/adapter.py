"""Seam: ``llamafactory.model.adapter.init_adapter``.

Training: the LoRA that LLaMA-Factory makes is the one subspace in training; the projector is unfrozen as
``freeze_multi_modal_projector: false`` says, which LLaMA-Factory's own LoRA tuning does not heed.

Inference: the output folder of an fcit run as ``adapter_name_or_path`` gives routed subspaces, or a merged model.
"""

import inspect
from pathlib import Path

import torch
import wrapt

from ..arguments.option import nearest
from .four_bits import keep_unpacked


def install(adapter_module) -> None:
    """Wrap ``init_adapter``."""
    signature = inspect.signature(adapter_module.init_adapter)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        finetuning_args = given["finetuning_args"]
        folder = fcit_folder(given["model_args"].adapter_name_or_path)
        if folder is not None:
            from .serving import load_fcit_folder

            keep_unpacked(given["model"], trains=False)
            return load_fcit_folder(given["model"], folder, given["model_args"], finetuning_args)
        if not getattr(finetuning_args, "fcit_stage", None) or not given["is_trainable"]:
            return wrapped(*args, **kwargs)
        check_targets(given["model"], finetuning_args)
        keep_unpacked(given["model"], trains=True)
        model = wrapped(*args, **kwargs)
        unfreeze_projector(model, finetuning_args)
        return model

    wrapt.wrap_function_wrapper(adapter_module, "init_adapter", wrapper)


def check_targets(model: torch.nn.Module, finetuning_args) -> None:
    """Refuse keys that name layers which the base model does not have; PEFT would pass over some of several targets.

    Raises:
        ValueError: A LoRA target matches nothing, or there is no projector; the sentence names the key.
    """
    names = [name for name, _ in model.named_modules()]
    for target in finetuning_args.lora_target:
        if target != "all" and not any(f".{name}".endswith(f".{target}") for name in names):
            layers = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
            raise ValueError(
                f"`lora_target`: no layer of the base model is named {target!r}; {nearest(target, sorted(layers))}"
            )
    if finetuning_args.fcit.fcit_projector_learning_rate is not None and not projectors(model):
        raise ValueError(
            "`fcit_projector_learning_rate` is for the projector of a multimodal model, and this base model "
            "has none; take the key out."
        )


def fcit_folder(adapters: list[str] | None) -> Path | None:
    """The output folder of an fcit run among the adapters, if there is one.

    Raises:
        ValueError: There are other adapters beside it, or the run has not come to its end.
    """
    found = [Path(adapter) for adapter in adapters or [] if is_fcit_folder(adapter) or _commit_in(adapter)]
    if found and len(adapters) > 1:
        raise ValueError(f"`adapter_name_or_path`: the FCIT folder {found[0]} cannot be combined with other adapters.")
    if found and not is_fcit_folder(found[0]):
        raise ValueError(
            f"`adapter_name_or_path`: the run in {found[0]} has not come to its end; let it go on, or name what it has "
            f"reached: {_commit_in(found[0])}."
        )
    return found[0] if found else None


def is_fcit_folder(path: str | Path) -> bool:
    """Whether a folder is the output of an fcit run, be it a damaged one."""
    from ..federation.files import MANIFEST, TOKENS  # only now: a plain run shall not pay for it

    return any((Path(path) / name).is_file() for name in (MANIFEST, TOKENS))


def _commit_in(path: str | Path) -> Path | None:
    """The last commit of a run that has left no results yet."""
    from ..federation.checkpoints import Checkpoints

    return Checkpoints(Path(path)).newest_good().good


def unfreeze_projector(model: torch.nn.Module, finetuning_args) -> None:
    """Make the multimodal projector trainable, unless the recipe freezes it.

    It is trained in float32, as LLaMA-Factory trains LoRA, also inside a model of half precision; with ``pure_bf16``
    it stays as it is. DeepSpeed casts the whole model to its own precision, so the hooks look at what is there.
    """
    if finetuning_args.freeze_multi_modal_projector:
        return
    embedding = model.get_input_embeddings()
    for projector in projectors(model):
        projector.requires_grad_(True)
        if not finetuning_args.pure_bf16 and model.dtype != torch.float32:
            projector.float()
            projector.register_forward_pre_hook(lambda module, args: tuple(x.to(next(module.parameters()).dtype) for x in args))
            projector.register_forward_hook(lambda module, args, output: output.to(embedding.weight.dtype))


def projectors(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The multimodal projectors of a model, by LLaMA-Factory's own register; none for a text model."""
    from llamafactory.model.model_utils.visual import COMPOSITE_MODELS

    composite = COMPOSITE_MODELS.get(getattr(model.config, "model_type", None))
    keys = tuple(f".{key}" for key in composite.projector_keys) if composite else ()
    return [module for name, module in model.named_modules() if keys and f".{name}".endswith(keys)]
