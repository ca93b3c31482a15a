"""The weights that a client trains: which layers get LoRA, and whether the projector is unfrozen."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from llamafactory.extras import logging
from peft import PeftModel

from ..adapters.fused import check_fused, fused_parameters, short_names
from ..adapters.quantized import is_quantized
from ..arguments import FcitArguments
from ..errors import FcitError, nearest

logger = logging.get_logger(__name__)


def check_targets(model: torch.nn.Module, targets: Sequence[str], args: FcitArguments) -> None:
    """Refuse keys that name layers which the base model does not have; PEFT would pass over some of several targets.

    Args:
        model: The base model.
        targets: ``lora_target``.
        args: Our keys.

    Raises:
        FcitError: A LoRA target matches nothing, or there is no projector; the sentence names the key.
    """
    names = [name for name, _ in model.named_modules()]
    for target in targets:
        if target != "all" and not any(f".{name}".endswith(f".{target}") for name in names):
            layers = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
            fused = "its experts are fused, see `fcit_target_parameters`; " if fused_parameters(model) else ""
            raise FcitError(
                f"`lora_target`: no layer of the base model is named {target!r}; {fused}{nearest(target, sorted(layers))}"
            )
    check_fused(model, args.fcit_target_parameters or ())
    if args.fcit_projector_learning_rate is not None and not projectors(model):
        raise FcitError(
            "`fcit_projector_learning_rate` is for the projector of a multimodal model, and this base model "
            "has none; take the key out."
        )


def check_projector(model: torch.nn.Module, frozen: bool, bits: int | None, method: str) -> None:
    """Refuse to train a projector that is quantized: bitsandbytes can leave it as it is, which other packages are not told.

    Args:
        model: The base model, or one of its shapes.
        frozen: ``freeze_multi_modal_projector``.
        bits: ``quantization_bit``, also where a dry run has taken it out.
        method: ``quantization_method``.

    Raises:
        FcitError: The sentence names the keys.
    """
    found = [] if frozen else projectors(model)
    if found and bits is not None and method != "bnb":
        raise FcitError(
            f"`quantization_method: {method}` quantizes the projector too, which `freeze_multi_modal_projector: false` is to "
            "train; take `quantization_method: bnb`, which leaves it as it is, or freeze it."
        )
    if any(map(is_quantized, found)):
        raise FcitError(
            "The projector of this base model is quantized and cannot be trained, as `freeze_multi_modal_projector: false` "
            "asks for; set it to true, or take a base model that is not quantized, with `quantization_bit` if it shall be."
        )


def tell_of_experts(model: torch.nn.Module, args: FcitArguments) -> None:
    """Say in the log that `lora_target` does not reach the experts of a base model, whose subspaces are on all else then."""
    known = fused_parameters(model)
    if known and not args.fcit_target_parameters:
        able = short_names(name for name, able in known.items() if able)
        to_do = f"To train them too, set `fcit_target_parameters: {','.join(able)}`."
        logger.warning_rank0(
            "The experts of this base model are fused, and `lora_target` does not reach them: its other layers are trained. "
            + (to_do if able else "Subspaces cannot act on them.")
        )


def unfreeze_projector(model: PeftModel, finetuning_args) -> None:
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
            projector.register_forward_pre_hook(lambda module, args: _cast(args, next(module.parameters()).dtype))
            projector.register_forward_hook(lambda module, args, output: output.to(embedding.weight.dtype))


def _cast(args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """The arguments of a module with its features in this precision; sizes of images remain whole numbers."""
    return tuple(x.to(dtype) if torch.is_tensor(x) and x.is_floating_point() else x for x in args)


def projectors(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The multimodal projectors of a model, by LLaMA-Factory's own register; none for a text model."""
    keys = tuple(f".{key}" for key in _projector_keys(model.config))
    return [module for name, module in model.named_modules() if keys and f".{name}".endswith(keys)]


def projector_patterns(config: Any) -> list[str]:
    """Patterns of names, as transformers takes them, for all that is in the projectors of a model with this configuration."""
    return [rf"(?:.*\.)?{re.escape(key)}(?:\.|$)" for key in _projector_keys(config)]


def _projector_keys(config: Any) -> list[str]:
    from llamafactory.model.model_utils.visual import COMPOSITE_MODELS

    composite = COMPOSITE_MODELS.get(getattr(config, "model_type", None))
    return composite.projector_keys if composite else []
