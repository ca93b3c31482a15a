"""An FCIT output folder as ``adapter_name_or_path``: routed inference for chat, api, predict; merging for export."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.model import load_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model

from ..adapters.lora import check_keys, check_shapes, read_subspace
from ..adapters.stacked import STACKED, Activation, attach, fold_weights
from ..arguments import FcitArguments
from ..federation.state import TOKENS, ServerState, load_state
from ..knowledge.activation import Router
from ..knowledge.encoders import make_encoder
from ..knowledge.fixed import fixed_weights
from ..scenario.settings import datasets_of_task
from .datasets import is_dataset
from .instructions import prompt_reader, without_media
from .pipeline import instructions_of
from .routing import Routing

logger = logging.get_logger(__name__)


def load_fcit_folder(model: torch.nn.Module, folder: Path, model_args, finetuning_args) -> torch.nn.Module:
    """Put what a run learnt onto the base model.

    Args:
        model: The base model.
        folder: The run's output folder.
        model_args: LLaMA-Factory's model arguments; with ``export_dir`` the subspaces are merged into the model.
        finetuning_args: Its fine-tuning arguments, with the fcit keys and the data arguments on them.

    Raises:
        ValueError: The folder holds no subspace, or does not fit the model.
    """
    state, manifest = load_state(folder)
    if not state.subspaces:
        raise ValueError(f"{folder} holds no subspace yet; run at least one round first.")
    exports = model_args.export_dir is not None
    if exports and getattr(model, "quantization_method", None) is not None:
        raise ValueError("Cannot merge adapters to a quantized model.")  # LLaMA-Factory's own words, before merging
    load_shared(model, state, folder)
    fcit = getattr(finetuning_args, "fcit", None) or FcitArguments()
    data_args = finetuning_args.fcit_data_args
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)

    def router() -> Router:
        encoder = make_encoder(
            manifest["identity_encoder"], manifest["identity_pooling"], manifest["identity_center"], model, tokenizer
        )
        dimension = encoder.encode(["."]).shape[1]
        if dimension != (expected := state.tokens.sums.shape[1]):
            raise ValueError(
                f"The identity tokens in {folder / TOKENS} have {expected} numbers, those of this base model have "
                f"{dimension}; give the base model that the run was made with."
            )
        return Router(
            encoder, state.tokens, manifest["activation"], manifest["temperature"], fcit.fcit_fallback_threshold
        )

    if exports:
        weights = _export_weights(fcit, state, manifest, router, model_args, data_args)
        logger.info_rank0(f"Merging {len(weights)} subspaces with weights {np.round(weights, 4).tolist()}.")
        return merged(model, folder, state, weights)
    peft_model, activation = stacked(model, folder, state)
    names = [f"{k} ({', '.join(tasks) or 'unused'})" for k, tasks in enumerate(state.tasks)]
    trace = names.__getitem__ if fcit.fcit_trace_activation else None
    read = prompt_reader(tokenizer, template)
    Routing(peft_model, activation, router(), data_args.fcit_instructions, read, trace)
    logger.info_rank0(f"Loaded {len(state.subspaces)} subspaces from {folder}; each request activates its own.")
    return peft_model


def stacked(model: torch.nn.Module, folder: Path, state: ServerState) -> tuple[PeftModel, Activation]:
    """The model with all subspaces on it, and the activation that wants weights."""
    peft_model = get_peft_model(model, LoraConfig.from_pretrained(str(folder / "subspaces" / "0")))
    blank = read_subspace(peft_model)
    for k, subspace in enumerate(state.subspaces):
        what = f"subspace in {folder}/subspaces/{k}"
        check_keys(blank, subspace, what)
        check_shapes(blank, subspace, what)
    return peft_model, attach(peft_model, state.subspaces)


def merged(model: torch.nn.Module, folder: Path, state: ServerState, weights: list[float]) -> torch.nn.Module:
    """The base model with the subspaces added to its weights, for fixed weights w [K]: no adapter is left."""
    peft_model, activation = stacked(model, folder, state)
    fold_weights(peft_model, torch.tensor(weights), activation.rank)
    return peft_model.merge_and_unload(adapter_names=[STACKED])


def _export_weights(
    fcit: FcitArguments, state: ServerState, manifest: dict, router: Callable[[], Router], model_args, data_args
) -> list[float]:
    """The weights w [K] of an export: fixed ones, or with ``auto`` those that an instruction or a data set activates."""
    if fcit.fcit_export_weights != "auto":
        setting = manifest["setting"]
        return fixed_weights(
            fcit.fcit_export_weights, state.tasks, state.tokens.counts, lambda task: datasets_of_task(setting, task)
        )
    given, made = fcit.fcit_export_instruction, router()
    if not is_dataset(given, data_args.dataset_dir):
        return made.weights([without_media(given)])[0].tolist()
    embedded = made.encoder.encode(instructions_of(given, model_args, data_args))
    return made.weights_of(embedded.mean(axis=0, keepdims=True))[0].tolist()


def load_shared(model: torch.nn.Module, state: ServerState, folder: Path) -> None:
    """Put the shared trainables into the model.

    Raises:
        ValueError: They are not those of this base model.
    """
    parameters = dict(model.named_parameters())
    for key, value in state.shared.items():
        if key not in parameters or parameters[key].shape != value.shape:
            raise ValueError(f"The shared trainables in {folder} do not fit this base model: {key} is not in it.")
        with torch.no_grad():
            parameters[key].copy_(value)
