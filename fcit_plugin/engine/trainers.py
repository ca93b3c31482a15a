"""What trains a client: one of LLaMA-Factory's stages, with its trainer, its data collator and its form of the records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from llamafactory.data import (
    KTODataCollatorWithPadding,
    MultiModalDataCollatorForSeq2Seq,
    PairwiseDataCollatorWithPadding,
    SFTDataCollatorWith4DAttentionMask,
)
from llamafactory.extras.constants import IGNORE_INDEX

from ..data.pipeline import Pipeline


@dataclass(frozen=True)
class LocalStage:
    """One stage.

    Attributes:
        processing: LLaMA-Factory's name for its form of the records.
        trained_by: Module and name of its trainer.
        collator: Makes batches of records.
        sequences: Sequences of a record that gradients go through at once.
    """

    processing: str
    trained_by: tuple[str, str]
    collator: type[MultiModalDataCollatorForSeq2Seq]
    sequences: int = 1

    @cached_property
    def trainer(self) -> Callable[..., Any]:
        """Takes the keywords of LLaMA-Factory's trainer, ``batch_terms``, ``projector_learning_rate`` and ``link``."""
        module, name = self.trained_by
        made: Callable[..., Any] = getattr(import_module(module, __package__), name)
        return made

    def make_collator(self, pipeline: Pipeline, model: torch.nn.Module) -> MultiModalDataCollatorForSeq2Seq:
        """The collator as LLaMA-Factory makes it for this stage.

        Args:
            pipeline: Data.
            model: The model in training.
        """
        pad = pipeline.tokenizer.pad_token_id
        masks: dict[str, Any] = {}
        if issubclass(self.collator, SFTDataCollatorWith4DAttentionMask):
            masks = {
                "block_diag_attn": pipeline.model_args.block_diag_attn,
                "neat_packing": pipeline.data_args.neat_packing,
                "attn_implementation": getattr(model.config, "_attn_implementation", None),
                "compute_dtype": pipeline.model_args.compute_dtype,
            }
        return self.collator(
            template=pipeline.template,
            model=model,
            pad_to_multiple_of=8,
            label_pad_token_id=IGNORE_INDEX if pipeline.data_args.ignore_pad_token_for_loss else pad,
            **masks,
            **pipeline.tokenizer_module,
        )


#: By the value of ``fcit_local_stage``.
LOCAL_STAGES: Mapping[str, LocalStage] = MappingProxyType(
    {
        "sft": LocalStage("sft", (".supervised_trainer", "ClientSupervisedTrainer"), SFTDataCollatorWith4DAttentionMask),
        "dpo": LocalStage("rm", (".preference_trainers", "ClientDpoTrainer"), PairwiseDataCollatorWithPadding, sequences=2),
        "kto": LocalStage("kto", (".preference_trainers", "ClientKtoTrainer"), KTODataCollatorWithPadding),
    }
)
