"""Subspaces as adapters for programs that know nothing of subspaces: plain PEFT folders, one per adapter.

What other loaders read of them: PEFT itself; LLaMA-Factory, which hands the folder to PEFT; and vLLM, whose loader wants
``r``, ``lora_alpha``, ``target_modules`` and, if they are there, ``use_rslora``, ``use_dora: false``, ``bias: none`` and no
``modules_to_save`` (``vllm/lora/peft_helper.py``), and tensors named ``base_model.model.<module>.lora_A.weight`` and
``lora_B.weight`` (``parse_fine_tuned_lora_name`` in ``vllm/lora/utils.py``), https://github.com/vllm-project/vllm.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..files import write_bytes, write_json
from .lora import Tensors
from .projectors import module_of
from .stacked import stack


def fixed_adapter(
    subspaces: Sequence[Tensors], weights: Sequence[float], config: Mapping[str, Any]
) -> tuple[Tensors, dict[str, Any]]:
    """One LoRA of rank K r that is sum_k w_k s B_k A_k, exactly.

    Args:
        subspaces: The factors of subspaces 0..K-1.
        weights: w [K].
        config: ``adapter_config.json`` of one subspace.

    Returns:
        Its factors, with the weights inside B, and its ``adapter_config.json``.
    """
    r = config["r"]
    rank = r * len(subspaces)
    scale = config["lora_alpha"] / (math.sqrt(r) if config.get("use_rslora") else r)
    alpha = scale * rank
    inside = 1.0
    if alpha != int(alpha):  # loaders take it for an integer
        alpha, inside = rank, scale
    gate = torch.tensor(list(weights)).repeat_interleave(r) * inside
    state = {
        key: value if ".lora_A." in key else value * gate.repeat_interleave(value.shape[1] // rank)
        for key, value in stack(subspaces, r).items()
    }
    return state, {**config, "r": rank, "lora_alpha": int(alpha), "use_rslora": False, "lora_dropout": 0.0}


def with_projector(state: Tensors, config: Mapping[str, Any], projector: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """A LoRA that brings its projector along, as PEFT's ``modules_to_save``.

    Args:
        state: The factors.
        config: ``adapter_config.json``.
        projector: By the names of the base model's parameters.
    """
    beside = {f"base_model.model.{key}": value for key, value in projector.items()}
    return {**state, **beside}, {**config, "modules_to_save": [module_of(projector)]}


def write_adapter(folder: Path, state: Tensors, config: Mapping[str, Any], base_model: str) -> None:
    """Write a PEFT folder.

    Args:
        folder: The folder, made if missing.
        state: The factors, in PEFT's keys.
        config: ``adapter_config.json``.
        base_model: Name or path of the base model that goes with it.
    """
    write_bytes(folder / "adapter_model.safetensors", save({key: value.contiguous() for key, value in state.items()}))
    write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": base_model, "inference_mode": True})
