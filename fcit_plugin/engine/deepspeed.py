"""DeepSpeed's engines: whole weights where ZeRO-3 shards them, full precision where they train in 16 bits.

An engine with ``bf16`` or ``fp16`` casts the whole model and keeps float32 masters of what it trains. The 16 bit copies
are too coarse to be averaged: a step of 2e-5 on a weight of 0.02 is lost in them. So clients begin and end with the masters.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.deepspeed import set_hf_deepspeed_config

#: What only training needs; ``auto`` values of the rest are resolved by the Trainer, which is not here.
_TRAINING_ONLY = ("optimizer", "scheduler", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping")


@contextlib.contextmanager
def gathering(model: torch.nn.Module, training_args: Any) -> Iterator[None]:
    """Within the block a sharded model can generate; all processes must take part in every forward pass.

    Without ZeRO-3 this does nothing: the weights are whole.

    Args:
        model: The model, no engine on it.
        training_args: LLaMA-Factory's training arguments; ``deepspeed`` names the configuration.
    """
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    was_training = model.training
    engine, *_ = deepspeed.initialize(model=model, config=inference_config(training_args.hf_deepspeed_config.config))
    model.train(was_training)
    try:
        yield
    finally:
        engine.destroy()


def inference_config(config: dict[str, Any]) -> dict[str, Any]:
    """A recipe's DeepSpeed configuration without what belongs to training."""
    kept = {key: value for key, value in copy.deepcopy(config).items() if key not in _TRAINING_ONLY}
    return {**_without_auto(kept), "train_micro_batch_size_per_gpu": 1}


def _without_auto(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with DeepSpeed's own defaults in place of ``auto``; a section without ``enabled`` is off."""
    kept = {}
    for key, value in config.items():
        if isinstance(value, dict):
            kept[key] = _without_auto(value)
        elif value != "auto":
            kept[key] = value
    return kept


@contextlib.contextmanager
def keeping_config(training_args: Any) -> Iterator[None]:
    """After the block transformers knows the run's DeepSpeed configuration again, not that of one client, which is gone.

    Args:
        training_args: The run's.
    """
    try:
        yield
    finally:
        if training_args.deepspeed:
            set_hf_deepspeed_config(training_args.hf_deepspeed_config)


class StartFrom(TrainerCallback):
    """Sets the masters of an engine that has just been made, from values that its 16 bit parameters cannot hold.

    Args:
        parameters: What is trained.
        values: The value of each, float32.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
        self.parameters = parameters
        self.values = values

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """The engine is there, and has trained nothing yet."""
        from deepspeed.utils import safe_set_full_fp32_param

        for name, parameter in self.parameters.items():
            safe_set_full_fp32_param(parameter, self.values[name].to(parameter.device))


def masters(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The float32 masters of a live engine, whole and on the CPU; all processes must ask at once.

    Args:
        parameters: What is trained.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    return {
        name: safe_get_full_fp32_param(parameter).detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, parameter in parameters.items()
    }


@contextlib.contextmanager
def keeping_precision(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """After the block the parameters have the precision that they had before; what ZeRO-3 has sharded stays as it is."""
    before = {name: parameter.dtype for name, parameter in parameters.items()}
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(before[name])
