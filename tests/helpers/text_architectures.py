"""Tiny random models of text alone: name -> :class:`Architecture`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import transformers as hf
from tiny_architecture import EXPERTS, LINEAR, SIZES, Architecture, save, tokenizer
from transformers import AutoConfig

_LATENT: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


def _text(folder: Path, kind: str, **changes: Any) -> None:
    save(folder, AutoConfig.for_model(kind, **SIZES | changes), tokenizer([]), hf.AutoModelForCausalLM)


def text(title: str, kind: str, template: str, **changes: Any) -> Architecture:
    """A model of text alone."""
    return Architecture(title, template, partial(_text, kind=kind, **changes))


#: PEFT refuses the last layer of a Mamba block, and takes no experts that are one parameter.
_MAMBA = "q_proj,k_proj,v_proj,o_proj,in_proj,gate_proj,up_proj,down_proj"


TEXT: dict[str, Architecture] = {
    "llama": text("Llama 3 (tied)", "llama", "llama3", tie_word_embeddings=True),
    "qwen2": text("Qwen2.5 (tied)", "qwen2", "qwen", tie_word_embeddings=True),
    "qwen3": text("Qwen3", "qwen3", "qwen3_nothink"),
    "mistral": text("Mistral", "mistral", "mistral"),
    "ministral": text("Ministral", "ministral", "ministral", layer_types=["full_attention", "sliding_attention"]),
    "gemma": text("Gemma", "gemma", "gemma"),
    "gemma2": text("Gemma 2", "gemma2", "gemma2", query_pre_attn_scalar=8),
    "gemma3_text": text("Gemma 3 (text)", "gemma3_text", "gemma", query_pre_attn_scalar=8),
    "phi3": text("Phi-4", "phi3", "phi4"),
    "glm4": text("GLM-4", "glm4", "glm4"),
    "granite": text("Granite 3", "granite", "granite3"),
    "olmo2": text("OLMo-2", "olmo2", "olmo"),
    "seed_oss": text("Seed-OSS", "seed_oss", "seed_oss"),
    "smollm3": text("SmolLM3", "smollm3", "smollm2"),
    "starcoder2": text("StarCoder2", "starcoder2", "default"),
    "cohere": text("Command R", "cohere", "cohere"),
    "falcon_h1": replace(
        text(
            "Falcon-H1",
            "falcon_h1",
            "falcon_h1",
            **{"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
        ),
        target=_MAMBA,
    ),
    "lfm2": text("LFM2", "lfm2", "lfm2", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "hunyuan": text("Hunyuan", "hunyuan_v1_dense", "hunyuan"),
    "ernie4_5": text("ERNIE-4.5", "ernie4_5", "ernie_nothink"),
    "mixtral": text("Mixtral", "mixtral", "mistral", num_local_experts=4),
    "qwen2_moe": text("Qwen2-MoE", "qwen2_moe", "qwen", **EXPERTS),
    "qwen3_moe": text("Qwen3-MoE", "qwen3_moe", "qwen3_nothink", **EXPERTS),
    "qwen3_next": text("Qwen3-Next", "qwen3_next", "qwen3_nothink", **EXPERTS, **LINEAR),
    "glm4_moe": text("GLM-4-MoE", "glm4_moe", "glm4_moe", **_LATENT),
    "deepseek_v3": text(
        "DeepSeek-V3",
        "deepseek_v3",
        "deepseek3",
        **_LATENT,
        **{"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8},
        head_dim=4,
        num_key_value_heads=4,
    ),
    "granitemoehybrid": replace(
        text(
            "Granite 4",
            "granitemoehybrid",
            "granite4",
            layer_types=["mamba", "attention"],
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=16,
            **{"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1},
        ),
        target="q_proj,k_proj,v_proj,o_proj,in_proj,shared_mlp.input_linear,shared_mlp.output_linear",
    ),
    "gpt_oss": replace(
        text("gpt-oss", "gpt_oss", "gpt_oss", num_local_experts=4, num_experts_per_tok=2),
        fails="LLaMA-Factory 0.9.5 imports `load_and_register_kernel`, which transformers 5.6 does not have",
    ),
}
