"""What the tiny random models of many architectures have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
from transformers import PreTrainedTokenizerFast, set_seed

#: What some templates end an answer with; they would be added to a tokenizer that does not have them.
_ENDS = ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>", "<|user|>", "<|end|>"]
SIZES: dict[str, Any] = {
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
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "decoder_sparse_step": 1,
}
LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "partial_rotary_factor": 1.0,
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


def tokenizer(special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """A tokenizer with these special tokens; ``named`` are those that a processor asks for by name."""
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


def save(folder: Path, config: Any, saved: Any, model: Any) -> None:
    """Write a random model of this configuration, in bfloat16, with its tokenizer or processor."""
    set_seed(0)
    made = model.from_config(config, dtype=torch.bfloat16)
    for name, parameter in made.named_parameters():
        if name.endswith("_gate"):  # a random Llama-3.2-Vision does not look at images yet
            torch.nn.init.ones_(parameter)
    made.save_pretrained(folder)
    saved.save_pretrained(folder)
