"""What a model takes beside a batch of tokenized prompts, and on which side they are padded."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel


def media_types(model: PeftModel, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Which prompt tokens stand for an image (1) or a video (2), where the model asks for it.

    Qwen-VL models lay image tokens out in a grid (M-RoPE). In training LLaMA-Factory's collator computes the positions;
    ``generate`` computes its own, and without these types it would number the image like text.
    """
    base = model.get_base_model()
    wanted = "mm_token_type_ids" in inspect.signature(base.forward).parameters and "mm_token_type_ids" not in inputs
    if not wanted or not {"image_grid_thw", "video_grid_thw"} & inputs.keys():
        return {}
    types = torch.zeros_like(inputs["input_ids"])
    for value, key in ((1, "image_token_id"), (2, "video_token_id")):
        types[inputs["input_ids"] == getattr(base.config, key)] = value
    return {"mm_token_type_ids": types}


@contextlib.contextmanager
def padding(tokenizer, side: str) -> Iterator[None]:
    """Within the block the tokenizer pads on a side; generation needs the left one."""
    before = tokenizer.padding_side
    tokenizer.padding_side = side
    try:
        yield
    finally:
        tokenizer.padding_side = before
