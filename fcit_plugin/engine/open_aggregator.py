"""Opening the session of ``fcit_aggregate``: it averages files, so it needs the shapes of the model and none of its weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from ..data.pipeline import Pipeline
from ..recipe.base_model import naming_the_model
from ..state.checkpoints import Checkpoints
from ..state.folder import StateFolder
from .open_dry_session import model_of_shapes
from .open_session import (
    check_earlier_model,
    check_output_dir,
    clear_output_dir,
    load_tokenizer_module,
    make_program,
    open_session,
    pipeline_parts,
    read_setup,
    with_checked_start,
)
from .session import Session


def open_aggregator(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, generating_args: Any) -> Session:
    """A session on a model without weights; see :func:`.open_session.open_session`.

    The first state alone, which holds the shared trainables as the base model has them, takes the weights. What tells the base
    model from others comes from the state that is gone on from, and so does the width of identity tokens.
    """
    given = (model_args, data_args, training_args, finetuning_args, generating_args)
    source = finetuning_args.fcit_request.args.fcit_state_dir
    if source is None or is_deepspeed_zero3_enabled():  # whose engine makes the parameters itself
        return open_session(*given)
    setup = read_setup(*given)
    checkpoints = Checkpoints(setup.output_dir, training_args.save_total_limit)
    setup, start = with_checked_start(setup)  # none, or a refusal: this stage is one step
    held = check_output_dir(setup, checkpoints, start)
    tokenizer_module = load_tokenizer_module(setup)
    with naming_the_model(model_args, OSError):
        model = model_of_shapes(setup, tokenizer_module["tokenizer"])
    program = make_program(setup, model)
    program = replace(program, blank={key: torch.zeros(value.shape) for key, value in program.blank.items()})
    check_earlier_model(setup, model, program, None)
    manifest = StateFolder(Path(source)).manifest
    session = Session(
        **vars(setup),
        checkpoints=checkpoints,
        start=start,
        pipeline=Pipeline(*pipeline_parts(setup, tokenizer_module)),
        data={},
        model=model,
        base_fingerprint=manifest.get("base_fingerprint"),
        base_sample=manifest.get("base_sample", {}),
        base_weights=None,
        encoder=None,
        program=program,
    )
    clear_output_dir(session, held)
    return session
