"""Seam: ``llamafactory.model.model_utils.quantization`` - a projector that is trained, or was, is no part of what is quantized.

bitsandbytes keeps packed bytes in the place of a weight, which no optimizer can move and nothing that was learned fits into.
The function sees the model arguments alone, on which the parser's seam has put what it needs.
"""

import copy
import inspect
from collections.abc import Iterable
from typing import Any

import torch
import transformers
import wrapt
from transformers.quantizers import HfQuantizer

from ..engine.trainable import projector_patterns
from ..recipe.request import ModelRequest

#: In LLaMA-Factory's order; a model of none of these kinds is a causal one.
_KINDS = (
    transformers.AutoModelForImageTextToText,
    transformers.AutoModelForSeq2SeqLM,
    transformers.AutoModelForTextToWaveform,
)


def install(quantization_module) -> None:
    """Wrap what decides how a base model is quantized while it is loaded."""
    signature = inspect.signature(quantization_module.configure_quantization)

    def wrapper(wrapped, instance, args, kwargs):
        given = signature.bind(*args, **kwargs).arguments
        wrapped(*args, **kwargs)
        model_args, chosen = given["model_args"], given["init_kwargs"].get("quantization_config")
        patterns = projector_patterns(given["config"])
        if patterns and isinstance(chosen, transformers.BitsAndBytesConfig) and ModelRequest.of(model_args).keeps_projector:
            heads = _left_out_anyway(given["config"], model_args.trust_remote_code)
            chosen.llm_int8_skip_modules = [*heads, *patterns]

    wrapt.wrap_function_wrapper(quantization_module, "configure_quantization", wrapper)


def _left_out_anyway(config: Any, trust_remote_code: bool) -> Iterable[str]:
    """What transformers does not quantize by itself, but does where it is told what to leave out: the head, for one."""
    chosen = (kind for kind in _KINDS if type(config) in kind._model_mapping)
    load_class = next(chosen, transformers.AutoModelForCausalLM)
    with torch.device("meta"):
        model = load_class.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    return HfQuantizer.get_modules_to_not_convert(model)
