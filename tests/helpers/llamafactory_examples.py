"""The keys of LLaMA-Factory 0.9.5's example recipes, with stand-ins for their data.

Keys and values of https://github.com/hiyouga/LLaMA-Factory at v0.9.5, folder examples/: those with LoRA in train_lora,
train_qlora, extras, ktransformers and ascend.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny

#: What nearly all of them have.
COMMON = {
    "trust_remote_code": True, "do_train": True, "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all",
    "cutoff_len": 2048, "max_samples": 1000, "preprocessing_num_workers": 16, "dataloader_num_workers": 4,
    "logging_steps": 10, "save_steps": 500, "plot_loss": True, "overwrite_output_dir": True, "save_only_model": False,
    "report_to": "none", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1.0e-4,
    "num_train_epochs": 3.0, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "bf16": True, "ddp_timeout": 180000000,
    "resume_from_checkpoint": None,
}  # fmt: skip
#: What stands in each of them as a comment, to be switched on.
EVALUATED = {"val_size": 0.1, "per_device_eval_batch_size": 1, "eval_strategy": "steps", "eval_steps": 500}
IMAGES = {"image_max_pixels": 262144, "video_max_pixels": 16384}
FOUR_BITS = {"quantization_bit": 4, "quantization_method": "bnb"}
PREFERENCES = {"pref_beta": 0.1, "pref_loss": "sigmoid", "learning_rate": 5.0e-6}


@dataclass(frozen=True)
class Example:
    """One set of keys.

    Attributes:
        names: The recipes that have it.
        keys: What it has beside :data:`COMMON`.
        without: Keys of :data:`COMMON` that it has not.
        stage: Its stage.
        refused: What the message holds; nothing where it starts.
        stand_ins: Further stand-ins.
    """

    names: tuple[str, ...]
    keys: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    stage: str = "sft"
    refused: tuple[str, ...] = ()
    stand_ins: dict[str, Any] = field(default_factory=dict)


_NO_TRAINING = (
    "dataloader_num_workers", "logging_steps", "save_steps", "plot_loss", "save_only_model", "report_to",
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs", "lr_scheduler_type",
    "warmup_ratio", "bf16", "ddp_timeout", "resume_from_checkpoint",
)  # fmt: skip
_OLD = {"overwrite_cache": True}
_Q = "train_qlora/llama3_lora_sft_"
EXAMPLES = [
    Example(("train_lora/qwen3_lora_sft",)),
    Example((f"{_Q}aqlm", f"{_Q}awq", f"{_Q}gptq"), without=("resume_from_checkpoint",)),
    Example(("train_lora/qwen3_lora_dpo",), PREFERENCES, stage="dpo"),
    Example(
        ("train_lora/qwen3_lora_kto",),
        {"pref_beta": 0.1, "learning_rate": 5.0e-6},
        ("save_only_model", "resume_from_checkpoint"),
        "kto",
    ),
    Example(
        ("train_lora/qwen3_lora_pretrain",),
        stage="pt",
        refused=("`fcit_local_stage` is 'pt', which has no answers", "first words"),
    ),
    Example(("train_lora/qwen3_lora_reward",), stage="rm", refused=("`fcit_local_stage` is 'rm'",)),
    Example(
        ("train_lora/qwen3_lora_sft_ds3",), {"deepspeed": "ds_z3_config.json", "gradient_accumulation_steps": 2}
    ),
    Example(("train_lora/qwen3_lora_sft_ray",), {"ray_num_workers": 4}, refused=("`ray_num_workers`", "FORCE_TORCHRUN=1")),
    Example(
        ("train_lora/qwen3_preprocess",), {"tokenized_path": "saves/dataset"}, _NO_TRAINING, refused=("`tokenized_path`",)
    ),
    Example(("train_lora/qwen3vl_lora_sft",), IMAGES),
    Example(("train_lora/qwen3vl_lora_dpo",), IMAGES | PREFERENCES, stage="dpo"),
    Example(("train_qlora/qwen3_lora_sft_bnb_npu",), FOUR_BITS | {"double_quantization": False}, ("resume_from_checkpoint",)),
    Example(("train_qlora/qwen3_lora_sft_otfq",), FOUR_BITS, ("resume_from_checkpoint",)),
    Example(("extras/fsdp_qlora/llama3_lora_sft",), {"quantization_bit": 4, **_OLD}, ("resume_from_checkpoint",)),
    Example(("extras/loraplus/llama3_lora_sft",), {"loraplus_lr_ratio": 16.0, **_OLD}, ("resume_from_checkpoint",)),
    Example(
        ("extras/pissa/llama3_lora_sft",),
        {"pissa_init": True, "pissa_iter": 16, "pissa_convert": True, **_OLD},
        ("resume_from_checkpoint",),
        refused=("`pissa_init`", "`pissa_convert`"),
    ),
    Example(
        ("extras/nlg_eval/llama3_lora_predict",),
        {"do_predict": True, "predict_with_generate": True, "max_samples": 50, "per_device_eval_batch_size": 1,
         "adapter_name_or_path": "saves/llama3-8b/lora/sft", "eval_dataset": "color_test,letter_test", **_OLD},
        ("do_train", "lora_rank", "lora_target", *(set(_NO_TRAINING) - {"dataloader_num_workers", "report_to", "ddp_timeout"})),
        refused=("`do_predict`", "`adapter_name_or_path`"),
    ),
    Example(
        tuple(f"ktransformers/train_lora/{of}_lora_sft_kt" for of in ("deepseek_v2", "deepseek_v3", "qwen3_5moe", "qwen3moe")),
        {"use_kt": True, "max_samples": 100000, **_OLD},
        refused=("`use_kt`",),
    ),
    Example(
        ("ascend/qwen3vlmoe_lora_sft_fsdp",),
        IMAGES | {"use_v1_kernels": True, "disable_gradient_checkpointing": False, "flash_attn": "disabled", "cutoff_len": 1024,
                  "save_only_model": True, "per_device_train_batch_size": 8, "seed": 1234, **_OLD},
        ("max_samples", "num_train_epochs"),
        refused=("`use_v1_kernels`",),
    ),
]  # fmt: skip


def data(folder: Path) -> Path:
    """Writes stand-ins for their data: answers, pairs, feedback."""
    tiny.data(folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    rows = [{"q": "name the color of this square please red", "a": "red", "b": "blue", "t": i % 2 == 0} for i in range(16)]
    (folder / "p.json").write_text(json.dumps(rows))
    columns = {"dpo": {"prompt": "q", "chosen": "a", "rejected": "b"}, "kto": {"prompt": "q", "response": "a", "kto_tag": "t"}}
    for stage in columns:
        info[stage] = {"file_name": "p.json", "ranking": stage == "dpo", "columns": columns[stage]}
        info[f"{stage}_test"] = info["color_test"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
