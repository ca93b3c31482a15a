"""ZeRO-3: the model answers through an engine that gathers each layer's shards while it runs."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

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
