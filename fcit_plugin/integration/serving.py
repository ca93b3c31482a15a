"""An FCIT output folder as ``adapter_name_or_path``: routed inference for chat, api, predict; merging for export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llamafactory.data.template import TEMPLATES
from llamafactory.extras import logging
from llamafactory.model import load_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model

from ..adapters.stacked import STACKED, Activation, attach, fold_weights
from ..federation.state import ServerState, load_state
from ..knowledge.activation import Router
from ..knowledge.encoders import make_encoder

logger = logging.get_logger(__name__)


def load_fcit_folder(model: torch.nn.Module, folder: Path, model_args, export_weights: Any) -> torch.nn.Module:
    """Put what a run learnt onto the base model.

    Args:
        model: The base model.
        folder: The run's output folder.
        model_args: LLaMA-Factory's model arguments; with ``export_dir`` the subspaces are merged into the model.
        export_weights: ``fcit_export_weights``.

    Raises:
        ValueError: The folder holds no subspace, or does not fit the model.
    """
    state, manifest = load_state(folder)
    if not state.subspaces:
        raise ValueError(f"{folder} holds no subspace yet; run at least one round first.")
    _load_shared(model, state, folder)
    config = LoraConfig.from_pretrained(str(folder / "subspaces" / "0"))
    peft_model = get_peft_model(model, config)
    activation = attach(peft_model, state.subspaces)
    if model_args.export_dir is not None:
        weights = fixed_weights(export_weights, state)
        fold_weights(peft_model, torch.tensor(weights), config.r)
        logger.info_rank0(f"Merging {len(weights)} subspaces with weights {np.round(weights, 4).tolist()}.")
        activation.set(torch.ones(1, len(weights)))
        return peft_model.merge_and_unload(adapter_names=[STACKED])
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    encoder = make_encoder(
        manifest["identity_encoder"], manifest["identity_pooling"], manifest["identity_center"], model, tokenizer
    )
    router = Router(encoder, state.tokens, manifest["activation"], manifest["temperature"])
    route(peft_model, activation, router, instruction_reader(tokenizer, manifest["template"]))
    logger.info_rank0(f"Loaded {len(state.subspaces)} subspaces from {folder}; each request activates its own.")
    return peft_model


def fixed_weights(given: Any, state: ServerState) -> list[float]:
    """The weights w [K] that ``fcit_export_weights`` names.

    Raises:
        ValueError: It is neither ``mean``, the id of a subspace, nor a list of K weights.
    """
    count = len(state.subspaces)
    text = given if isinstance(given, list) else (given or "mean")
    if text == "mean":
        return [1.0 / count] * count
    try:
        value = text if isinstance(text, list) else json.loads(text)
        if isinstance(value, int) and 0 <= value < count:
            return [float(k == value) for k in range(count)]
        if isinstance(value, list) and len(value) == count:
            return [float(weight) for weight in value]
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"`fcit_export_weights` is {given!r}; give mean, a subspace from 0 to {count - 1}, or a list of {count} weights."
    )


def _load_shared(model: torch.nn.Module, state: ServerState, folder: Path) -> None:
    parameters = dict(model.named_parameters())
    for key, value in state.shared.items():
        if key not in parameters or parameters[key].shape != value.shape:
            raise ValueError(f"The shared trainables in {folder} do not fit this base model: {key} is not in it.")
        with torch.no_grad():
            parameters[key].copy_(value)


def route(model: PeftModel, activation: Activation, router: Router, read: Callable[[torch.Tensor], str]) -> None:
    """Set the weights at every prefill, from the prompts in the batch; decoding steps keep them."""

    def before_forward(module, args, kwargs):
        ids = args[0] if args else kwargs.get("input_ids")
        cache = kwargs.get("past_key_values")
        if ids is not None and (cache is None or cache.get_seq_length() == 0):
            activation.set(torch.from_numpy(router.weights([read(row) for row in ids])))

    # generate() calls the base model; PEFT's own forward() goes round the base model's hooks
    for module in (model, model.get_base_model()):
        module.register_forward_pre_hook(before_forward, with_kwargs=True)


def instruction_reader(tokenizer, template_name: str) -> Callable[[torch.Tensor], str]:
    """Recovers the latest user instruction from the token ids of a prompt, by the template's own user turn."""

    def text_of(slot: str | dict[str, str] | set[str]) -> str:
        if isinstance(slot, dict):  # {"token": "<|im_start|>"}
            return slot["token"]
        if isinstance(slot, set):  # {"eos_token"}
            return "".join(getattr(tokenizer, name) or "" for name in slot)
        return slot

    turn = "".join(map(text_of, TEMPLATES[template_name].format_user.slots))
    prefix, _, suffix = turn.partition("{{content}}")
    prefix, suffix = prefix.strip(), suffix.strip()
    plugin = TEMPLATES[template_name].mm_plugin
    marks = ("image_token", "video_token", "audio_token", "vision_bos_token", "vision_eos_token")
    media = ["<image>", "<video>", "<audio>", tokenizer.pad_token, *(getattr(plugin, mark, None) for mark in marks)]
    media = [token for token in media if token]

    def read(ids: torch.Tensor) -> str:
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if prefix:
            text = text.rpartition(prefix)[2]
        if suffix:
            text = text.partition(suffix)[0]
        for token in media:
            text = text.replace(token, "")
        return text.strip()

    return read
