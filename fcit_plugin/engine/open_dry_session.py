"""Opening the session of a dry run: everything that a run sets up, but for weights and what is on disk."""

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from llamafactory.model import load_model
from peft import PeftModel
from typing_extensions import override

from ..data.named import Named
from ..data.pipeline import Pipeline, Split
from ..knowledge.sources import source_dimension
from ..recipe.base_model import naming_the_model
from ..state.checkpoints import Checkpoints
from .open_session import (
    check_earlier_model,
    check_output_dir,
    load_tokenizer_module,
    make_program,
    pipeline_parts,
    read_records,
    read_setup,
)
from .session import Session, Setup
from .settling import settled_without_weights

#: Records of each dataset that are tokenized, spread evenly over it.
SAMPLE = 32


class SamplePipeline(Pipeline):
    """Reads all records, and tokenizes a few of them; all where their lengths say how they are packed."""

    def __init__(self, model_args, data_args, *args, **options) -> None:
        data_args = copy.copy(data_args)
        data_args.preprocessing_num_workers = None  # starting processes takes longer than what they would do
        super().__init__(model_args, data_args, *args, **options)

    @override
    def _rows(self, aligned: Dataset, kept: Sequence[int]) -> tuple[Dataset, Sequence[int]]:
        if self.data_args.packing:
            return aligned, kept
        sample = np.linspace(0, len(aligned) - 1, min(len(aligned), SAMPLE)).astype(int)
        return aligned.select(sample), [kept[i] for i in sample]

    @override
    def _load(self, name: Named) -> Split:
        with contextlib.redirect_stdout(io.StringIO()):  # LLaMA-Factory prints an example of each dataset
            return super()._load(name)


class ShapeEncoder:
    """Stands for an identity encoder of which only the size of the tokens is known.

    Args:
        dimension: D.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def encode(self, texts) -> np.ndarray:
        """Tokens without content, float32 [n, D]."""
        return np.zeros((len(texts), self.dimension), dtype=np.float32)


def open_dry_session(
    model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, generating_args: Any
) -> Session:
    """A session that changes nothing on disk and whose model has shapes but no weights; see :func:`.open_session.open_session`.

    Most records are not tokenized, so nothing tells the datasets from others, and the plan is that of a whole run.
    """
    setup = settled_without_weights(read_setup(model_args, data_args, training_args, finetuning_args, generating_args))
    checkpoints = Checkpoints(setup.output_dir, training_args.save_total_limit)
    check_output_dir(setup, checkpoints, start=None)
    tokenizer_module = load_tokenizer_module(setup)
    pipeline = SamplePipeline(*pipeline_parts(setup, tokenizer_module))
    if setup.request.stage == "fcit":
        read_records(setup, pipeline)
        if setup.earlier is not None:
            setup.earlier.check_data({})
    with naming_the_model(model_args, OSError):
        model = model_of_shapes(setup, tokenizer_module["tokenizer"])
    program = make_program(setup, model)
    check_earlier_model(setup, model, program, None)
    if setup.args.fcit_bound == "oracle":
        dimension = len(setup.scenario.tasks)
    else:
        dimension = source_dimension(*setup.identity_source, model, tokenizer_module["tokenizer"])
    return Session(
        **vars(setup),
        checkpoints=checkpoints,
        start=None,
        pipeline=pipeline,
        data={},
        model=model,
        base_fingerprint=None,
        base_sample={},
        base_weights=None,
        encoder=ShapeEncoder(program.form.width(dimension)),
        program=program,
    )


def model_of_shapes(setup: Setup, tokenizer: Any) -> PeftModel:
    """The base model with the subspace that trains, on the meta device: made from its configuration, no weight is read."""
    model_args, finetuning_args = copy.copy(setup.model_args), copy.copy(setup.finetuning_args)
    model_args.train_from_scratch = True  # from the configuration alone
    finetuning_args.pure_bf16 = setup.request.aside.get("pure_bf16", finetuning_args.pure_bf16)
    with torch.device("meta"):
        return load_model(tokenizer, model_args, finetuning_args, is_trainable=True)
