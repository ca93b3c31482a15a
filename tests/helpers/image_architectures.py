"""Tiny random models that see images: name -> :class:`Architecture`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import transformers as hf
from tiny_architecture import EXPERTS, LINEAR, SIZES, Architecture, save, tokenizer
from transformers import AutoConfig, PreTrainedTokenizerFast

_PIXTRAL = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
_GLM = ["<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|video|>"]
_GEMMA = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
_INTERN = ["<IMG_CONTEXT>", "<img>", "</img>"]
_LLAMA4 = [
    *("<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"),
    *("<|tile_x_separator|>", "<|tile_y_separator|>"),
]


def _vision(**changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "image_size": 16, "patch_size": 8, **changes}


def _language(kind: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": kind, **SIZES, **changes}


def _clip() -> hf.CLIPImageProcessor:
    return hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def llava(folder: Path) -> None:
    """LLaVA-1.5."""
    fast = tokenizer(["<image>"], image_token="<image>")
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
    save(folder, config, processor, hf.AutoModelForImageTextToText)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: an image as a whole and in tiles."""
    fast = tokenizer(["<image>"], image_token="<image>")
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
    save(folder, config, processor, hf.AutoModelForImageTextToText)


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
    fast = tokenizer(_PIXTRAL)
    config = hf.LlavaConfig(
        vision_config=_pixtral_vision(),
        text_config=_language("mistral"),
        image_token_index=fast.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save(folder, config, _pixtral_processor(fast, 1), hf.AutoModelForImageTextToText)


def mistral3(folder: Path) -> None:
    """Mistral-3: Pixtral's tower, whose patches are merged."""
    fast = tokenizer(_PIXTRAL)
    config = hf.Mistral3Config(
        vision_config=_pixtral_vision(),
        text_config=_language("mistral"),
        image_token_index=fast.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        spatial_merge_size=2,
    )
    save(folder, config, _pixtral_processor(fast, 2), hf.AutoModelForImageTextToText)


_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


def _qwen(folder: Path, kind: str, processor: Any, vision: dict[str, Any], videos: Any, **text: Any) -> None:
    fast = tokenizer(tiny.QWEN_TOKENS[4:], image_token="<|image_pad|>", video_token="<|video_pad|>")
    ids = fast.convert_tokens_to_ids
    config = AutoConfig.for_model(
        kind,
        text_config={**SIZES, "rope_parameters": _MROPE, **text},
        vision_config=vision,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    side = 2 * vision.get("patch_size", 14)
    pixels = {"shortest_edge": side * side, "longest_edge": 16 * side * side}
    patch = {"patch_size": side // 2, "temporal_patch_size": 2, "merge_size": 2}
    save(
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


def qwen3_5(folder: Path, kind: str = "qwen3_5", **text: Any) -> None:
    """Qwen3.5: linear attention beside full one."""
    _qwen(folder, kind, hf.Qwen3VLProcessor, _QWEN3_VISION, hf.Qwen3VLVideoProcessor, **LINEAR, **text)


def glm4v(folder: Path) -> None:
    """GLM-4V, whose projector has layers of the names of the language model's."""
    fast = tokenizer(_GLM, image_token="<|image|>", video_token="<|video|>")
    ids = fast.convert_tokens_to_ids
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    config = AutoConfig.for_model(
        "glm4v",
        text_config={**SIZES, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}},
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
    save(folder, config, hf.Glm4vProcessor(images, fast, videos), hf.AutoModelForImageTextToText)


def gemma3(folder: Path) -> None:
    """Gemma 3 with images, which see both ways."""
    fast = tokenizer(_GEMMA, boi_token=_GEMMA[0], eoi_token=_GEMMA[1], image_token=_GEMMA[2])
    ids = fast.convert_tokens_to_ids
    config = hf.Gemma3Config(
        text_config={**SIZES, "query_pre_attn_scalar": 8, "sliding_window": 64},
        vision_config={"model_type": "siglip_vision_model", **_vision(vision_use_head=False)},
        mm_tokens_per_image=4,
        boi_token_index=ids(_GEMMA[0]),
        eoi_token_index=ids(_GEMMA[1]),
        image_token_index=ids(_GEMMA[2]),
    )
    side = {"height": 16, "width": 16}
    processor = hf.Gemma3Processor(hf.Gemma3ImageProcessor(size=side), fast, image_seq_length=4)
    save(folder, config, processor, hf.AutoModelForImageTextToText)


def paligemma(folder: Path) -> None:
    """PaliGemma."""
    fast = tokenizer(["<image>"], image_token="<image>")
    config = hf.PaliGemmaConfig(
        text_config=_language("gemma"),
        vision_config={"model_type": "siglip_vision_model", **_vision(vision_use_head=False, projection_dim=32)},
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    images = hf.SiglipImageProcessor(size={"height": 16, "width": 16})
    images.image_seq_length = 4
    save(folder, config, hf.PaliGemmaProcessor(images, fast), hf.AutoModelForImageTextToText)


def internvl(folder: Path) -> None:
    """InternVL3."""
    fast = tokenizer(
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
    save(folder, config, processor, hf.AutoModelForImageTextToText)


def mllama(folder: Path) -> None:
    """Llama-3.2-Vision: cross attention to an image's tiles."""
    fast = tokenizer(["<|image|>"], image_token="<|image|>")
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8, "max_num_tiles": 2, "intermediate_layers_indices": [0, 1]}
    vision |= {"vision_output_dim": 48, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]}
    config = hf.MllamaConfig(
        vision_config=vision,
        text_config={**SIZES, "cross_attention_layers": [1]},
        image_token_index=fast.convert_tokens_to_ids("<|image|>"),
    )
    images = hf.MllamaImageProcessor(size={"height": 16, "width": 16}, max_image_tiles=2)
    save(folder, config, hf.MllamaProcessor(images, fast), hf.AutoModelForImageTextToText)


def llama4(folder: Path) -> None:
    """Llama-4: experts, and a tower that does not cast its pixels."""
    fast = tokenizer(_LLAMA4, image_token="<|image|>")
    ids = fast.convert_tokens_to_ids
    vision = _vision(hidden_size=32, image_size=16, patch_size=4, vision_output_dim=32, projector_input_dim=32)
    vision |= {"projector_output_dim": 32, "pixel_shuffle_ratio": 0.5, "intermediate_size": 128}
    text = {**SIZES, "intermediate_size_mlp": 64, "num_local_experts": 2, "interleave_moe_layer_step": 2}
    config = hf.Llama4Config(
        vision_config=vision,
        text_config={**text, "attention_chunk_size": 64, "use_qk_norm": False},
        boi_token_index=ids("<|image_start|>"),
        eoi_token_index=ids("<|image_end|>"),
        image_token_index=ids("<|patch|>"),
    )
    images = hf.Llama4ImageProcessor(size={"height": 16, "width": 16}, max_patches=1)
    processor = hf.Llama4Processor(images, fast, patch_size=4, pixel_shuffle_ratio=0.5, fake_image_token="<|image|>")
    save(folder, config, processor, hf.AutoModelForImageTextToText)


def seeing(title: str, template: str, make: Callable[..., None], **more: Any) -> Architecture:
    """A model that sees images."""
    return Architecture(title, template, make, images=True, **more)


SEEING: dict[str, Architecture] = {
    "llava": seeing("LLaVA-1.5", "llava", llava),
    "llava_next": seeing("LLaVA-NeXT", "llava_next_mistral", llava_next),
    "pixtral": seeing("Pixtral", "pixtral", pixtral),
    "mistral3": seeing("Mistral-3", "mistral_small", mistral3),
    "qwen2_vl": seeing("Qwen2-VL", "qwen2_vl", qwen2_vl),
    "qwen2_5_vl": seeing("Qwen2.5-VL", "qwen2_vl", qwen2_5_vl),
    "qwen3_vl": seeing("Qwen3-VL", "qwen3_vl_nothink", qwen3_vl),
    "qwen3_vl_moe": seeing("Qwen3-VL-MoE", "qwen3_vl_nothink", partial(qwen3_vl, kind="qwen3_vl_moe", **EXPERTS)),
    "qwen3_5": seeing("Qwen3.5", "qwen3_5_nothink", qwen3_5),
    "qwen3_5_moe": seeing("Qwen3.5-MoE", "qwen3_5_nothink", partial(qwen3_5, kind="qwen3_5_moe", **EXPERTS)),
    "glm4v": seeing("GLM-4V", "glm4v", glm4v),
    "gemma3": seeing("Gemma 3", "gemma3", gemma3),
    "paligemma": seeing("PaliGemma", "paligemma", paligemma),
    "internvl": seeing("InternVL3", "intern_vl", internvl),
    "mllama": seeing("Llama-3.2-Vision", "mllama", mllama),
    "llama4": seeing("Llama-4", "llama4", llama4),
}
