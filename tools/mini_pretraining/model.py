"""The parts of the base model: a CLIP-type tower, a projector and a small Llama, as one LLaVA."""

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from fcit_plugin.samples.mini.drawing import CANVAS

from .labels import PATCH
from .tokenizer import IMAGE

WIDTH = 192
VISION = {"num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 768}
TEXT = {"num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 6, "intermediate_size": 384}
MEAN = STD = 0.5


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Tokenizer and image processor for one 48 px image."""
    side = {"height": CANVAS, "width": CANVAS}
    images = CLIPImageProcessor(
        size=side, crop_size=side, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[STD] * 3, do_convert_rgb=True
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """A LLaVA with random weights."""
    torch.manual_seed(seed)
    ends = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=WIDTH, image_size=CANVAS, patch_size=PATCH, **VISION),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            **TEXT,
            **ends,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(CANVAS // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **ends,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(max_new_tokens=128, do_sample=False, **ends)
    return model


def to_pixel_values(images: list) -> torch.Tensor:
    """Images as the image processor gives them, without its detours."""
    stacked = torch.stack([torch.from_numpy(image) for image in images])
    return ((stacked.permute(0, 3, 1, 2).float() / 255.0) - MEAN) / STD
