"""What trains a client: one of LLaMA-Factory's stages, with its trainer, its data collator and its form of the records."""

from collections.abc import Mapping, Sequence
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
from transformers import Trainer

from ..adapters.lora import lora_parameters, shared_parameters
from ..continual.terms import BatchTerm
from ..data.pipeline import Pipeline


class ProjectorLearningRateMixin:
    """For LLaMA-Factory's trainers: a learning rate of their own for the shared trainables."""

    def create_optimizer(self, *args, **kwargs) -> torch.optim.Optimizer:
        """The trainer's optimizer, with the shared trainables in groups apart."""
        optimizer = super().create_optimizer(*args, **kwargs)
        learning_rate = self.finetuning_args.fcit_request.args.fcit_projector_learning_rate
        if learning_rate is not None:
            _split_groups(optimizer, set(shared_parameters(self.model).values()), learning_rate)
        return optimizer


def _split_groups(optimizer: torch.optim.Optimizer, chosen: set[torch.nn.Parameter], learning_rate: float) -> None:
    """Move the chosen parameters into groups of another learning rate, all else as it was."""
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if parameter in chosen]
        if moved and group["lr"] != learning_rate:
            group["params"] = [parameter for parameter in group["params"] if parameter not in chosen]
            optimizer.add_param_group({**group, "params": moved, "lr": learning_rate})


class BatchTerms:
    """For the supervised trainer: terms in the loss.

    Attributes:
        batch_terms: What is added to the loss of each batch.
    """

    batch_terms: Sequence[BatchTerm] = ()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, **kwargs):
        """The trainer's loss, and the terms."""
        if not self.batch_terms or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch, **kwargs)
        batch = dict(inputs)  # label smoothing takes the labels out
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch=num_items_in_batch, **kwargs)
        weights = {**lora_parameters(self.model), **shared_parameters(self.model)}
        total = sum(term.loss(self.model, weights, batch, outputs.logits) for term in self.batch_terms)
        loss = loss + total * self._per_token(batch["labels"], num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _per_token(self, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float:
        """What a sum over the learnt tokens is multiplied with, as the Trainer does with its own loss."""
        if num_items_in_batch is None:
            return 1 / (labels[..., 1:] != IGNORE_INDEX).sum().clamp(min=1)
        return (self.accelerator.num_processes if self.args.average_tokens_across_devices else 1) / num_items_in_batch


class NoReferenceModelMixin:
    """For trainers that compare with a reference model: that is the model itself with the subspace switched off.

    So LLaMA-Factory does with LoRA. A projector in training is part of both.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(ref_model=None, **kwargs)


@dataclass(frozen=True)
class LocalStage:
    """One stage.

    Attributes:
        processing: LLaMA-Factory's name for its form of the records.
        trained_by: Module and name of its trainer; those of preference data import trl, which takes seconds.
        changed_by: What we change of it.
        collator: Makes batches of records.
        sequences: Sequences of a record that gradients go through at once.
    """

    processing: str
    trained_by: tuple[str, str]
    changed_by: tuple[type, ...]
    collator: type[MultiModalDataCollatorForSeq2Seq]
    sequences: int = 1

    @cached_property
    def trainer(self) -> type[Trainer]:
        """Takes the keywords of LLaMA-Factory's trainer."""
        module, name = self.trained_by
        return type(f"Client{name}", (*self.changed_by, getattr(import_module(module), name)), {})

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


_TRAINERS = "llamafactory.train.{}.trainer"
#: By the value of ``fcit_local_stage``.
LOCAL_STAGES: Mapping[str, LocalStage] = MappingProxyType(
    {
        "sft": LocalStage(
            "sft",
            (_TRAINERS.format("sft"), "CustomSeq2SeqTrainer"),
            (ProjectorLearningRateMixin, BatchTerms),
            SFTDataCollatorWith4DAttentionMask,
        ),
        "dpo": LocalStage(
            "rm",
            (_TRAINERS.format("dpo"), "CustomDPOTrainer"),
            (ProjectorLearningRateMixin, NoReferenceModelMixin),
            PairwiseDataCollatorWithPadding,
            sequences=2,
        ),
        "kto": LocalStage(
            "kto",
            (_TRAINERS.format("kto"), "CustomKTOTrainer"),
            (ProjectorLearningRateMixin, NoReferenceModelMixin),
            KTODataCollatorWithPadding,
        ),
    }
)
