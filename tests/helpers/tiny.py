"""Tiny random models, tiny datasets and recipes, made on the spot for tests."""

import json
import random
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

COLORS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "grey": (128, 128, 128)}
#: name of the task -> (instruction, answers by color)
TASKS = {
    "color": ("name the color of this square please", {"red": "red", "green": "green", "blue": "blue", "grey": "grey"}),
    "letter": ("which letter belongs to it", {"red": "a", "green": "b", "blue": "c", "grey": "d"}),
    "number": ("count how many points are given", {"red": "one", "green": "two", "blue": "three", "grey": "four"}),
}


def _words(special: list[str], turns: list[str]) -> Tokenizer:
    """A word-level tokenizer over the words of :data:`TASKS` and of the turns; the special ones have the first ids."""
    words = {*turns, "?", ".", ":"}
    for instruction, answers in TASKS.values():
        words.update(instruction.split(), answers.keys(), answers.values())
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *sorted(words)])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return core


def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the tiny Llama and LLaVA."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_words(["<pad>", "<s>", "</s>", "<unk>", "<image>"], ["USER:", "ASSISTANT:", "Human:", "Assistant:"]),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )


#: ids 0 to 9 of the tiny Qwen models, in this order
QWEN_TOKENS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", "<think>", "</think>"),
]


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the tiny Qwen models, with Qwen's own special tokens."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_words(QWEN_TOKENS, ["system", "user", "assistant"]),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    fast.add_special_tokens({"additional_special_tokens": [t for t in QWEN_TOKENS if t.startswith("<|")]})
    return fast


def _text_config(size: int, **changes: int) -> LlamaConfig:
    sizes = {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**sizes, **changes})


def llama(folder: Path, **changes: int) -> Path:
    """A random Llama with two layers of 32; ``changes`` override sizes of its configuration."""
    fast = tokenizer()
    set_seed(0)
    LlamaForCausalLM(_text_config(len(fast), **changes)).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    """A random LLaVA: that Llama, and a CLIP tower that sees 16 x 16 pixels in 4 patches."""
    fast = tokenizer()
    set_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=_text_config(len(fast)),
        image_token_index=fast.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    _llava_processor(fast, image_size=16, patch_size=8).save_pretrained(folder)
    return folder


def _llava_processor(fast: PreTrainedTokenizerFast, image_size: int, patch_size: int) -> LlavaProcessor:
    side = {"height": image_size, "width": image_size}
    return LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=side),
        fast,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )


def llava15_7b(folder: Path) -> Path:
    """The shape of LLaVA-1.5-7B without its weights: configuration and image processor, with the tiny tokenizer.

    The configuration is that of https://huggingface.co/llava-hf/llava-1.5-7b-hf, which transformers' defaults are.
    """
    fast = tokenizer()
    config = LlavaConfig(architectures=["LlavaForConditionalGeneration"], dtype="float16", image_token_index=4)
    config.text_config.vocab_size = 32064
    config.save_pretrained(folder)
    _llava_processor(fast, image_size=336, patch_size=14).save_pretrained(folder)
    return folder


def clip_l14(folder: Path) -> Path:
    """The shape of CLIP ViT-L/14-336's text tower without its weights."""
    CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """A random CLIP text tower of one layer of 16."""
    fast = tokenizer()
    set_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=fast.eos_token_id,
        bos_token_id=fast.bos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    CLIPTextModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def qwen3(folder: Path) -> Path:
    """A random Qwen3 with two layers of 32."""
    fast = qwen_tokenizer()
    set_seed(0)
    config = Qwen3Config(**_qwen_text(len(fast)), head_dim=8)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def qwen25_vl(folder: Path) -> Path:
    """A random Qwen2.5-VL: two layers of 32 over a vision tower of two blocks whose patches are 14 x 14 pixels."""
    fast = qwen_tokenizer()
    set_seed(0)
    special = {token: i for i, token in enumerate(QWEN_TOKENS)}
    sections = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    config = Qwen2_5_VLConfig(
        text_config={**_qwen_text(len(fast)), "rope_parameters": sections},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    pixels = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    Qwen2_5_VLProcessor(Qwen2VLImageProcessor(size=pixels), fast, Qwen2VLVideoProcessor(size=pixels)).save_pretrained(folder)
    return folder


def _qwen_text(size: int) -> dict[str, Any]:
    return {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def data(folder: Path, train: int = 24, test: int = 6, images: bool = False) -> Path:
    """Writes the tasks in the benchmark's layout, text only or with images, with a ``dataset_info.json``."""
    generator = random.Random(0)
    info: dict[str, Any] = {}
    (folder / "datasets").mkdir(parents=True)
    for color, rgb in COLORS.items():
        Image.new("RGB", (16, 16), rgb).save(folder / "datasets" / f"{color}.png")
    for name, (instruction, answers) in TASKS.items():
        for split, count in (("train", train), ("test", test)):
            colors = [generator.choice(list(COLORS)) for _ in range(count)]
            records = [_record(split, i, color, instruction, answers[color], images) for i, color in enumerate(colors)]
            (folder / f"{name}_{split}.json").write_text(json.dumps(records))
        columns = {"images": "image"} if images else {}
        info[name] = {
            "file_name": f"{name}_train.json",
            "formatting": "fcit",
            "columns": {"messages": "conversations", **columns},
        }
        info[f"{name}_test"] = {
            "file_name": f"{name}_test.json",
            "formatting": "fcit",
            "columns": {"prompt": "text", "response": "answer", **columns},
        }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def _record(split: str, number: int, color: str, instruction: str, answer: str, images: bool) -> dict[str, Any]:
    text = instruction if images else f"{instruction} {color}"
    record: dict[str, Any] = {"image": f"{color}.png"} if images else {}
    if split == "test":
        return record | {"question_id": number, "text": text, "answer": answer}
    tag = "<image>\n" if images else ""
    turns = [{"from": "human", "value": tag + text}, {"from": "gpt", "value": answer}]
    return record | {"conversations": turns}


MINI_TRAIN, MINI_TEST = 4, 3
"""Records of each dataset of :func:`mini`."""


def mini(folder: Path) -> Path:
    """Writes all datasets of FCIT-mini, with few records."""
    from fcit_plugin.samples.mini.build import build_mini

    build_mini(folder, train=MINI_TRAIN, test=MINI_TEST, seed=5)
    return folder


def recipe(model: Path, data_dir: Path, output_dir: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of two stages, two rounds and three clients of which two are sampled; ``changes`` override keys."""
    keys = {
        "model_name_or_path": str(model),
        "stage": "fcit",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 4,
        "lora_alpha": 8,
        "lora_target": "gate_proj,up_proj,down_proj",
        "template": "llava" if (model / "processor_config.json").exists() else "vicuna",
        "default_system": "",
        "dataset_dir": str(data_dir),
        "media_dir": str(data_dir / "datasets"),
        "cutoff_len": 64,
        "max_new_tokens": 4,
        "output_dir": str(output_dir),
        "logging_steps": 1,
        "report_to": "none",
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "learning_rate": 0.01,
        "num_train_epochs": 1.0,
        "lr_scheduler_type": "cosine",
        "disable_gradient_checkpointing": True,
        "fcit_setting": "custom",
        "fcit_stages": [["color"], ["letter"]],
        "fcit_num_clients": 3,
        "fcit_clients_per_round": 2,
        "fcit_num_rounds": 2,
        "fcit_min_client_samples": 4,
        "fcit_identity_min_records": 1,  # all tell a token, however few records they have
    }
    return {key: value for key, value in {**keys, **changes}.items() if value is not None}


def write_recipe(path: Path, keys: dict[str, Any]) -> Path:
    """Writes a recipe as YAML."""
    path.write_text(yaml.safe_dump(keys))
    return path
