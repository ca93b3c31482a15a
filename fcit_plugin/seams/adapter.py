"""Seam: ``llamafactory.model.adapter.init_adapter``.

Training: the LoRA that LLaMA-Factory makes is the one subspace in training; the projector is unfrozen as
``freeze_multi_modal_projector: false`` says, which LLaMA-Factory's own LoRA tuning does not heed.

Inference: the output folder of an fcit run as ``adapter_name_or_path`` gives routed subspaces, or a merged model.
"""

import contextlib
import inspect
from collections.abc import Iterator
from functools import partial

import wrapt

from ..adapters.four_bits import keep_unpacked
from ..engine.trainable import check_projector, check_targets, tell_of_experts, unfreeze_projector
from ..recipe.request import Request
from ..state.output_folder import fcit_folder


def install(adapter_module) -> None:
    """Wrap ``init_adapter``."""
    signature = inspect.signature(adapter_module.init_adapter)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        finetuning_args = given["finetuning_args"]
        folder = fcit_folder(given["model_args"].adapter_name_or_path)
        if folder is not None:
            from ..serving.load import load_fcit_folder

            keep_unpacked(given["model"], trains=False)
            return load_fcit_folder(given["model"], folder, given["model_args"], finetuning_args)
        request = Request.of(finetuning_args)
        if request is None or request.stage is None or not given["is_trainable"]:
            return wrapped(*args, **kwargs)
        check_targets(given["model"], finetuning_args.lora_target, request.args)
        bits = request.aside.get("quantization_bit", given["model_args"].quantization_bit)
        method = getattr(given["model_args"].quantization_method, "value", given["model_args"].quantization_method)
        check_projector(given["model"], finetuning_args.freeze_multi_modal_projector, bits, method)
        tell_of_experts(given["model"], request.args)
        keep_unpacked(given["model"], trains=True)
        with _targeting(adapter_module, request.args.fcit_target_parameters):
            model = wrapped(*args, **kwargs)
        unfreeze_projector(model, finetuning_args)
        return model

    wrapt.wrap_function_wrapper(adapter_module, "init_adapter", wrapper)


@contextlib.contextmanager
def _targeting(adapter_module, parameters) -> Iterator[None]:
    """Within the block LLaMA-Factory's LoRA is on these parameters too, for which it has no key."""
    config = adapter_module.LoraConfig
    if parameters:
        adapter_module.LoraConfig = partial(config, target_parameters=[*parameters])
    try:
        yield
    finally:
        adapter_module.LoraConfig = config
