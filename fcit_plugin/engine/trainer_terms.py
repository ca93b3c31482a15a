"""Terms of methods and server rules in the Trainer, and what methods measure on the model that it has trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from llamafactory.extras.constants import IGNORE_INDEX
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from ..adapters.lora import lora_parameters, shared_parameters
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
                term.add(self.weights)


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
