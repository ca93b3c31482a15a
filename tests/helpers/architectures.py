"""Tiny random models of many architectures, made from transformers' own configurations: name -> :class:`Architecture`."""

from image_architectures import SEEING
from text_architectures import TEXT
from tiny_architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {**TEXT, **SEEING}
#: Those whose experts are fused in transformers' common form.
FUSED = ("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "glm4_moe", "deepseek_v3", "gpt_oss", "qwen3_vl_moe", "qwen3_5_moe")
