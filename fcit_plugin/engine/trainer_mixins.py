"""What we change of LLaMA-Factory's trainers."""

from collections.abc import Sequence
from typing import Any

import torch
from llamafactory.extras.constants import IGNORE_INDEX

from ..adapters.lora import lora_parameters, shared_parameters
from ..continual.terms import BatchTerm

_Trainer: Any = object  # each class stands before one of LLaMA-Factory's trainers, whose methods these are


class ProjectorLearningRateMixin(_Trainer):
    """A learning rate of their own for the shared trainables.

    Args:
        projector_learning_rate: The rate; None for that of all others.
        kwargs: Keywords of LLaMA-Factory's trainer.
    """

    def __init__(self, *, projector_learning_rate: float | None, **kwargs: Any) -> None:
        self._projector_learning_rate = projector_learning_rate
        super().__init__(**kwargs)

    def create_optimizer(self, *args, **kwargs) -> torch.optim.Optimizer:
        """The trainer's optimizer, with the shared trainables in groups apart."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self._projector_learning_rate is not None:
            _split_groups(optimizer, set(shared_parameters(self.model).values()), self._projector_learning_rate)
        return optimizer


def _split_groups(optimizer: torch.optim.Optimizer, chosen: set[torch.nn.Parameter], learning_rate: float) -> None:
    """Move the chosen parameters into groups of another learning rate, all else as it was."""
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if parameter in chosen]
        if moved and group["lr"] != learning_rate:
            group["params"] = [parameter for parameter in group["params"] if parameter not in chosen]
            optimizer.add_param_group({**group, "params": moved, "lr": learning_rate})


class ScheduleOfChainMixin(_Trainer):
    """A piece of a learning rate's schedule that several clients pass through, one after the other.

    Client i of n, from 0, takes as many steps of a schedule n times as long as its own training, from the i-th of n pieces on.
    So pieces meet whoever has how many steps, and the rate warms up and decays once in a chain.

    Args:
        link: i and n; None for a schedule of the client's own.
        kwargs: Keywords of LLaMA-Factory's trainer.
    """

    def __init__(self, *, link: tuple[int, int] | None, **kwargs: Any) -> None:
        self._link = link
        super().__init__(**kwargs)

    def create_scheduler(self, num_training_steps: int, *args, **kwargs) -> torch.optim.lr_scheduler.LRScheduler:
        """The trainer's schedule, or the client's piece of the chain's."""
        if self._link is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, *args, **kwargs)
        place, links = self._link
        scheduler = super().create_scheduler(links * num_training_steps, *args, **kwargs)
        _begin_at(scheduler, place * num_training_steps)
        return scheduler


def _begin_at(scheduler: torch.optim.lr_scheduler.LambdaLR, step: int) -> None:
    """Have a schedule that has not begun yet begin with a later step of it."""
    rates = [rate * factor(step) for rate, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": step, "_last_lr": rates})
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


class BatchTermsMixin(_Trainer):
    """Terms in the loss of the supervised trainer.

    Args:
        batch_terms: What is added to the loss of each batch.
        kwargs: Keywords of LLaMA-Factory's trainer.
    """

    def __init__(self, *, batch_terms: Sequence[BatchTerm], **kwargs: Any) -> None:
        self._batch_terms = batch_terms
        super().__init__(**kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, **kwargs):
        """The trainer's loss, and the terms."""
        if not self._batch_terms or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch, **kwargs)
        batch = dict(inputs)  # label smoothing takes the labels out
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch=num_items_in_batch, **kwargs)
        weights = {**lora_parameters(self.model), **shared_parameters(self.model)}
        total = sum(term.loss(self.model, weights, batch, outputs.logits) for term in self._batch_terms)
        loss = loss + total * self._per_token(batch["labels"], num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _per_token(self, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float:
        """What a sum over the learned tokens is multiplied with, as the Trainer does with its own loss."""
        if num_items_in_batch is None:
            return 1 / (labels[..., 1:] != IGNORE_INDEX).sum().clamp(min=1)
        return (self.accelerator.num_processes if self.args.average_tokens_across_devices else 1) / num_items_in_batch


class NoReferenceModelMixin(_Trainer):
    """For trainers that compare with a reference model: that is the model itself with the subspace switched off.

    So LLaMA-Factory does with LoRA. A projector in training is part of both.

    Args:
        batch_terms: None of them: the recipe is refused where a method has some.
        kwargs: Keywords of LLaMA-Factory's trainer.
    """

    def __init__(self, *, batch_terms: Sequence[BatchTerm], **kwargs: Any) -> None:
        assert not batch_terms, "terms of the loss are for the supervised trainer"
        super().__init__(ref_model=None, **kwargs)
