"""An FCIT output folder as ``adapter_name_or_path``: routed inference for chat, api, predict; merging for export."""

from pathlib import Path

import numpy as np
import torch
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.model import load_tokenizer
from transformers import PreTrainedModel

from ..data.instructions import prompt_reader
from ..data.pixels import PixelReader
from ..errors import FcitError
from ..knowledge.activation import Router
from .routing import Routing
from .trained import TrainedRun

logger = logging.get_logger(__name__)


def load_fcit_folder(model: PreTrainedModel, folder: Path, model_args, finetuning_args) -> torch.nn.Module:
    """Put what a run learned onto the base model.

    Args:
        model: The base model.
        folder: The run's output folder.
        model_args: LLaMA-Factory's model arguments; with ``export_dir`` the subspaces are merged into the model.
        finetuning_args: Its fine-tuning arguments, with the request on them.

    Raises:
        FcitError: The folder holds no subspace, or does not fit the model.
    """
    trained = TrainedRun.read(folder)
    exports = model_args.export_dir is not None
    if exports and getattr(model, "quantization_method", None) is not None:
        raise FcitError("Cannot merge adapters to a quantized model.")  # LLaMA-Factory's own words, before merging
    trained.check_base(model)
    trained.put_shared(model)
    request = finetuning_args.fcit_request
    fcit, data_args = request.args, request.data_args
    if data_args.template != (trained_with := trained.manifest["template"]):
        logger.warning_rank0(
            f"{folder} was trained with `template: {trained_with}` and is asked with `template: {data_args.template}`, with "
            "which it may answer otherwise; name the same."
        )
    loaded = load_tokenizer(model_args)
    tokenizer = loaded["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    pixels = PixelReader(template, loaded["processor"])

    def router() -> Router:
        given = fcit.fcit_fallback_threshold, fcit.fcit_trusted_encoder, fcit.fcit_route_unconfirmed
        return trained.router(model, tokenizer, pixels, *given)

    if exports:
        weights = trained.export_weights(fcit, router, model_args, data_args, pixels)
        logger.info_rank0(f"Merging {len(weights)} subspaces with weights {np.round(weights, 4).tolist()}.")
        return trained.merged(model, weights)
    peft_model, activation = trained.stacked(model)
    names = [f"{k} ({', '.join(tasks) or 'unused'})" for k, tasks in enumerate(trained.state.tasks)]
    trace = names.__getitem__ if fcit.fcit_trace_activation else None
    parts = peft_model, activation, router(), data_args.fcit_request.instructions, prompt_reader(tokenizer, template)
    Routing(*parts, [list(tasks) for tasks in trained.state.tasks], trace)
    logger.info_rank0(f"Loaded {len(names)} subspaces from {folder}; each request activates its own.")
    if alone := sorted(trained.state.alone):
        answers = "answer too" if fcit.fcit_route_unconfirmed else "do not answer"
        logger.info_rank0(
            f"Trained by one client alone, and confirmed by no other: subspaces {', '.join(names[k] for k in alone)}; they "
            f"{answers} (`fcit_route_unconfirmed`)."
        )
    return peft_model
