"""Terms of methods and server rules in the Trainer, and what methods measure on the model that it has trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from datasets import Dataset
from llamafactory.extras.constants import IGNORE_INDEX
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from ..adapters.lora import Tensors, lora_parameters, shared_parameters
from ..continual.terms import GradientTerm


class AddTerms(TrainerCallback):
    """Adds the terms' gradients before each optimizer step.

    Args:
        terms: The terms, which are asked in their order.
        weights: What is trained.
    """

    def __init__(self, terms: Sequence[GradientTerm], weights: Mapping[str, nn.Parameter]) -> None:
        self.terms = terms
        self.weights = weights

    def on_pre_optimizer_step(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """The gradients are whole, and clipped."""
        with torch.no_grad():
            for term in self.terms:
                if hasattr(term, "begin"):
                    term.begin(self.optimizer, state.max_steps)
                term.add(self.weights)

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs) -> None:
        self.optimizer = optimizer


class KeptRecords:
    """Implements :class:`fcit_plugin.continual.method.Memory` with a client's Trainer.

    Args:
        trainer: The Trainer.
        features: What the records are to it.
        weights: What is trained.
    """

    def __init__(self, trainer, features: Dataset, weights: Mapping[str, nn.Parameter]) -> None:
        self._trainer = trainer
        self._features = features
        self._weights = weights
        self._generator = torch.Generator().manual_seed(trainer.args.seed)

    def gradient(self, count: int) -> Tensors:
        """See :class:`fcit_plugin.continual.method.Memory`."""
        trainer, features = self._trainer, self._features
        chosen = torch.randperm(len(features), generator=self._generator)[:count].tolist()
        batch = trainer._prepare_inputs(trainer.data_collator([features[index] for index in chosen]))
        # not torch.autograd.grad, which cannot go through layers that are computed again (reentrant checkpointing)
        own = {key: weight.grad for key, weight in self._weights.items()}
        try:
            for weight in self._weights.values():
                weight.grad = None
            with torch.enable_grad():
                trainer.compute_loss(trainer.model, batch).backward()
            found = {key: weight.grad for key, weight in self._weights.items() if weight.grad is not None}
        finally:
            for key, weight in self._weights.items():
                weight.grad = own[key]
        # processes that share a step must take the same one: dropout, and a device's order of sums, make theirs differ
        reduced: Tensors = trainer.accelerator.reduce(found, reduction="mean")
        return reduced


class SampleGradients:
    """Implements :class:`fcit_plugin.continual.method.TrainedModel` with a client's Trainer.

    Args:
        trainer: The Trainer, after training.
    """

    def __init__(self, trainer) -> None:
        self._trainer = trainer
        self.weights = {**lora_parameters(trainer.model), **shared_parameters(trainer.model)}

    def sample_gradients(self, count: int, of: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Iterator[None]:
        """See :class:`fcit_plugin.continual.method.TrainedModel`. Without dropout."""
        trainer, model = self._trainer, self._trainer.model
        features = trainer.train_dataset
        generator = torch.Generator().manual_seed(trainer.args.seed)
        chosen = torch.randperm(len(features), generator=generator)[:count].tolist()
        was_training = model.training
        model.eval()
        try:
            for index in chosen:
                batch = trainer._prepare_inputs(trainer.data_collator([features[index]]))
                model.zero_grad()
                self._value(batch, of).backward()
                yield
        finally:
            model.zero_grad()
            model.train(was_training)

    def _value(self, batch: dict[str, torch.Tensor], of: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        """The number whose gradient is asked for."""
        if of is None:
            return self._trainer.compute_loss(self._trainer.model, batch)
        learned = batch["labels"][:, 1:] != IGNORE_INDEX  # the output at a token is about the next one
        return of(self._trainer.model(**batch).logits[:, :-1][learned].float())
