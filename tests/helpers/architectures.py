"""Tiny random models of many architectures, made from transformers' own configurations: name -> :class:`Architecture`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers as hf
from transformers import AutoConfig, PreTrainedTokenizerFast, set_seed

_PIXTRAL = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
_GLM = ["<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|video|>"]
_GEMMA = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
_INTERN = ["<IMG_CONTEXT>", "<img>", "</img>"]
_LLAMA4 = [
    *("<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"),
    *("<|tile_x_separator|>", "<|tile_y_separator|>"),
]
#: What some templates end an answer with; they would be added to a tokenizer that does not have them.
_ENDS = ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>", "<|user|>", "<|end|>"]
_SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "decoder_sparse_step": 1,
}
_LATENT: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


@dataclass(frozen=True)
class Architecture:
    """One of the models.

    Attributes:
        title: Its name in the table.
        template: LLaMA-Factory's template for it.
        make: Writes it into a folder.
        images: Whether it sees images.
        fails: Why a step of LLaMA-Factory or transformers does not work with it, whoever is at work; None if all do.
        target: ``lora_target``, where PEFT refuses some of all linear layers.
    """

    title: str
    template: str
    make: Callable[[Path], None]
    images: bool = False
    fails: str | None = None
    target: str = "all"


def _tokenizer(special: list[str], **named: str) -> PreTrainedTokenizerFast:
    marks = ["<pad>", "<s>", "</s>", "<unk>", *special]
    words = tiny._words([*marks, *(end for end in _ENDS if end not in marks)], ["user", "assistant", "USER:", "ASSISTANT:"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=named,
    )
    fast.add_special_tokens({"additional_special_tokens": [*special, *_ENDS]})
    return fast


def _save(folder: Path, config: Any, saved: Any, model: Any) -> None:
    set_seed(0)
    made = model.from_config(config, dtype=torch.bfloat16)
    for name, parameter in made.named_parameters():
        if name.endswith("_gate"):  # a random Llama-3.2-Vision does not look at images yet
            torch.nn.init.ones_(parameter)
    made.save_pretrained(folder)
    saved.save_pretrained(folder)


def _text(folder: Path, kind: str, **changes: Any) -> None:
    _save(folder, AutoConfig.for_model(kind, **_SIZES | changes), _tokenizer([]), hf.AutoModelForCausalLM)


def text(title: str, kind: str, template: str, **changes: Any) -> Architecture:
    """A model of text alone."""
    return Architecture(title, template, partial(_text, kind=kind, **changes))


#: PEFT refuses the last layer of a Mamba block, and takes no experts that are one parameter.
_MAMBA = "q_proj,k_proj,v_proj,o_proj,in_proj,gate_proj,up_proj,down_proj"


def _vision(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "image_size": 16, "patch_size": 8, **changes}


def _language(kind: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": kind, **_SIZES, **changes}


def _clip() -> hf.CLIPImageProcessor:
    return hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def llava(folder: Path) -> None:
    """LLaVA-1.5."""
    fast = _tokenizer(["<image>"], image_token="<image>")
    config = hf.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **_vision()},
        text_config=_language("llama"),
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    processor = hf.LlavaProcessor(
        _clip(),
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )
    _save(folder, config, processor, hf.AutoModelForImageTextToText)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: an image as a whole and in tiles."""
    fast = _tokenizer(["<image>"], image_token="<image>")
    config = hf.LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **_vision()},
        text_config=_language("mistral"),
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )
    side = {"height": 16, "width": 16}
    images = hf.LlavaNextImageProcessor(
        size={"shortest_edge": 16}, crop_size=side, image_grid_pinpoints=config.image_grid_pinpoints
    )
    processor = hf.LlavaNextProcessor(
        images,
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )
    _save(folder, config, processor, hf.AutoModelForImageTextToText)


def _pixtral_vision() -> dict[str, Any]:
    return {"model_type": "pixtral", **_vision(image_size=32, head_dim=8)}


def _pixtral_processor(fast: PreTrainedTokenizerFast, merge: int) -> hf.PixtralProcessor:
    images = hf.PixtralImageProcessor(size={"longest_edge": 32}, patch_size={"height": 8 * merge, "width": 8 * merge})
    return hf.PixtralProcessor(
        images,
        fast,
        patch_size=8,
        spatial_merge_size=merge,
        **dict(zip(("image_token", "image_break_token", "image_end_token"), _PIXTRAL, strict=True)),
    )


def pixtral(folder: Path) -> None:
    """Pixtral: images of any size, all as one sequence of patches."""
    fast = _tokenizer(_PIXTRAL)
    config = hf.LlavaConfig(
        vision_config=_pixtral_vision(),
        text_config=_language("mistral"),
        image_token_index=fast.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    _save(folder, config, _pixtral_processor(fast, 1), hf.AutoModelForImageTextToText)


def mistral3(folder: Path) -> None:
    """Mistral-3: Pixtral's tower, whose patches are merged."""
    fast = _tokenizer(_PIXTRAL)
    config = hf.Mistral3Config(
        vision_config=_pixtral_vision(),
        text_config=_language("mistral"),
        image_token_index=fast.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        spatial_merge_size=2,
    )
    _save(folder, config, _pixtral_processor(fast, 2), hf.AutoModelForImageTextToText)


_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


def _qwen(folder: Path, kind: str, processor: Any, vision: dict[str, Any], videos: Any, **text: Any) -> None:
    fast = _tokenizer(tiny.QWEN_TOKENS[4:], image_token="<|image_pad|>", video_token="<|video_pad|>")
    ids = fast.convert_tokens_to_ids
    config = AutoConfig.for_model(
        kind,
        text_config={**_SIZES, "rope_parameters": _MROPE, **text},
        vision_config=vision,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    side = 2 * vision.get("patch_size", 14)
    pixels = {"shortest_edge": side * side, "longest_edge": 16 * side * side}
    patch = {"patch_size": side // 2, "temporal_patch_size": 2, "merge_size": 2}
    _save(
        folder,
        config,
        processor(hf.Qwen2VLImageProcessor(size=pixels, **patch), fast, videos(size=pixels, **patch)),
        hf.AutoModelForImageTextToText,
    )


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL."""
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2}
    _qwen(folder, "qwen2_vl", hf.Qwen2VLProcessor, vision, hf.Qwen2VLVideoProcessor)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL."""
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    _qwen(folder, "qwen2_5_vl", hf.Qwen2_5_VLProcessor, vision, hf.Qwen2VLVideoProcessor)


_QWEN3_VISION: dict[str, Any] = {
    **{"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32, "patch_size": 16},
    "num_position_embeddings": 64,
}


def qwen3_vl(folder: Path, kind: str = "qwen3_vl", **text: Any) -> None:
    """Qwen3-VL, with features of several layers of the tower."""
    vision = {**_QWEN3_VISION, "deepstack_visual_indexes": [0]}
    _qwen(folder, kind, hf.Qwen3VLProcessor, vision, hf.Qwen3VLVideoProcessor, **text)


_LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "partial_rotary_factor": 1.0,
}


def qwen3_5(folder: Path, kind: str = "qwen3_5", **text: Any) -> None:
    """Qwen3.5: linear attention beside full one."""
    _qwen(folder, kind, hf.Qwen3VLProcessor, _QWEN3_VISION, hf.Qwen3VLVideoProcessor, **_LINEAR, **text)


def glm4v(folder: Path) -> None:
    """GLM-4V, whose projector has layers of the names of the language model's."""
    fast = _tokenizer(_GLM, image_token="<|image|>", video_token="<|video|>")
    ids = fast.convert_tokens_to_ids
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    config = AutoConfig.for_model(
        "glm4v",
        text_config={**_SIZES, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}},
        vision_config={**vision, "patch_size": 14, "image_size": 56},
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
    )
    pixels = {"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 32}
    images, videos = hf.Glm4vImageProcessor(size=pixels), hf.Glm4vVideoProcessor(size=pixels)
    _save(folder, config, hf.Glm4vProcessor(images, fast, videos), hf.AutoModelForImageTextToText)


def gemma3(folder: Path) -> None:
    """Gemma 3 with images, which see both ways."""
    fast = _tokenizer(_GEMMA, boi_token=_GEMMA[0], eoi_token=_GEMMA[1], image_token=_GEMMA[2])
    ids = fast.convert_tokens_to_ids
    config = hf.Gemma3Config(
        text_config={**_SIZES, "query_pre_attn_scalar": 8, "sliding_window": 64},
        vision_config={"model_type": "siglip_vision_model", **_vision(vision_use_head=False)},
        mm_tokens_per_image=4,
        boi_token_index=ids(_GEMMA[0]),
        eoi_token_index=ids(_GEMMA[1]),
        image_token_index=ids(_GEMMA[2]),
    )
    side = {"height": 16, "width": 16}
    processor = hf.Gemma3Processor(hf.Gemma3ImageProcessor(size=side), fast, image_seq_length=4)
    _save(folder, config, processor, hf.AutoModelForImageTextToText)


def paligemma(folder: Path) -> None:
    """PaliGemma."""
    fast = _tokenizer(["<image>"], image_token="<image>")
    config = hf.PaliGemmaConfig(
        text_config=_language("gemma"),
        vision_config={"model_type": "siglip_vision_model", **_vision(vision_use_head=False, projection_dim=32)},
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    images = hf.SiglipImageProcessor(size={"height": 16, "width": 16})
    images.image_seq_length = 4
    _save(folder, config, hf.PaliGemmaProcessor(images, fast), hf.AutoModelForImageTextToText)


def internvl(folder: Path) -> None:
    """InternVL3."""
    fast = _tokenizer(
        _INTERN,
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<IMG_CONTEXT>",
    )
    config = hf.InternVLConfig(
        text_config=_language("qwen2"),
        vision_config={"model_type": "internvl_vision", **_vision(image_size=[16, 16], patch_size=[4, 4])},
        image_token_id=fast.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = hf.GotOcr2ImageProcessor(size={"height": 16, "width": 16})
    videos = hf.InternVLVideoProcessor(size={"height": 16, "width": 16})
    processor = hf.InternVLProcessor(images, fast, videos, image_seq_length=4)
    _save(folder, config, processor, hf.AutoModelForImageTextToText)


def mllama(folder: Path) -> None:
    """Llama-3.2-Vision: cross attention to an image's tiles."""
    fast = _tokenizer(["<|image|>"], image_token="<|image|>")
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8, "max_num_tiles": 2, "intermediate_layers_indices": [0, 1]}
    vision |= {"vision_output_dim": 48, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}
    config = hf.MllamaConfig(
        vision_config=vision,
        text_config={**_SIZES, "cross_attention_layers": [1]},
        image_token_index=fast.convert_tokens_to_ids("<|image|>"),
    )
    images = hf.MllamaImageProcessor(size={"height": 16, "width": 16}, max_image_tiles=2)
    _save(folder, config, hf.MllamaProcessor(images, fast), hf.AutoModelForImageTextToText)


def llama4(folder: Path) -> None:
    """Llama-4: experts, and a tower that does not cast its pixels."""
    fast = _tokenizer(_LLAMA4, image_token="<|image|>")
    ids = fast.convert_tokens_to_ids
    vision = _vision(hidden_size=32, image_size=16, patch_size=4, vision_output_dim=32, projector_input_dim=32)
    vision |= {"projector_output_dim": 32, "pixel_shuffle_ratio": 0.5, "intermediate_size": 128}
    text = {**_SIZES, "intermediate_size_mlp": 64, "num_local_experts": 2, "interleave_moe_layer_step": 2}
    config = hf.Llama4Config(
        vision_config=vision,
        text_config={**text, "attention_chunk_size": 64, "use_qk_norm": False},
        boi_token_index=ids("<|image_start|>"),
        eoi_token_index=ids("<|image_end|>"),
        image_token_index=ids("<|patch|>"),
    )
    images = hf.Llama4ImageProcessor(size={"height": 16, "width": 16}, max_patches=1)
    processor = hf.Llama4Processor(images, fast, patch_size=4, pixel_shuffle_ratio=0.5, fake_image_token="<|image|>")
    _save(folder, config, processor, hf.AutoModelForImageTextToText)


def seeing(title: str, template: str, make: Callable[..., None], **more: Any) -> Architecture:
    """A model that sees images."""
    return Architecture(title, template, make, images=True, **more)


ARCHITECTURES: dict[str, Architecture] = {
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
    "qwen2_moe": text("Qwen2-MoE", "qwen2_moe", "qwen", **_EXPERTS),
    "qwen3_moe": text("Qwen3-MoE", "qwen3_moe", "qwen3_nothink", **_EXPERTS),
    "qwen3_next": text("Qwen3-Next", "qwen3_next", "qwen3_nothink", **_EXPERTS, **_LINEAR),
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
    "llava": seeing("LLaVA-1.5", "llava", llava),
    "llava_next": seeing("LLaVA-NeXT", "llava_next_mistral", llava_next),
    "pixtral": seeing("Pixtral", "pixtral", pixtral),
    "mistral3": seeing("Mistral-3", "mistral_small", mistral3),
    "qwen2_vl": seeing("Qwen2-VL", "qwen2_vl", qwen2_vl),
    "qwen2_5_vl": seeing("Qwen2.5-VL", "qwen2_vl", qwen2_5_vl),
    "qwen3_vl": seeing("Qwen3-VL", "qwen3_vl_nothink", qwen3_vl),
    "qwen3_vl_moe": seeing("Qwen3-VL-MoE", "qwen3_vl_nothink", partial(qwen3_vl, kind="qwen3_vl_moe", **_EXPERTS)),
    "qwen3_5": seeing("Qwen3.5", "qwen3_5_nothink", qwen3_5),
    "qwen3_5_moe": seeing("Qwen3.5-MoE", "qwen3_5_nothink", partial(qwen3_5, kind="qwen3_5_moe", **_EXPERTS)),
    "glm4v": seeing("GLM-4V", "glm4v", glm4v),
    "gemma3": seeing("Gemma 3", "gemma3", gemma3),
    "paligemma": seeing("PaliGemma", "paligemma", paligemma),
    "internvl": seeing("InternVL3", "intern_vl", internvl),
    "mllama": seeing("Llama-3.2-Vision", "mllama", mllama),
    "llama4": seeing("Llama-4", "llama4", llama4),
}
