"""Terms that a method or a server rule adds to a client's training, without a trainer.

Most have a gradient that is known or cheap by itself: it is added to that of the loss before each optimizer step, after
that one was clipped, so it is the same however the loss of a step is put together from micro-batches. A term that
depends on the batch is added to the batch's loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn

from ..adapters.lora import Tensors

Weights = Mapping[str, nn.Parameter]


class GradientTerm(ABC):
    """Changes the gradient of each optimizer step."""

    @abstractmethod
    def add(self, weights: Weights) -> None:
        """Called before each step with the trained weights, whose ``grad`` is that of the loss."""

    def measured(self) -> Mapping[str, Tensors]:
        """What was measured over the training and is to be sent to the server, by the name of its record."""
        return {}


class BatchTerm(ABC):
    """Adds to the loss of each batch."""

    @abstractmethod
    def loss(
        self, model: nn.Module, weights: Weights, inputs: Mapping[str, torch.Tensor], logits: torch.Tensor
    ) -> torch.Tensor:
        """The term, summed over the tokens that are learned.

        Args:
            model: The model in training; ``weights`` are parameters of it.
            weights: What is trained.
            inputs: The batch with its labels [batch, length], -100 where nothing is learned.
            logits: The model's own, [batch, length, vocabulary].
        """


class Pull(GradientTerm):
    """A spring that holds weights to an anchor: s/2 sum_i f_i (w_i - a_i)^2, with gradient s f_i (w_i - a_i).

    With f = 1 this is the client's term of FedProx (Li et al. 2020, arXiv 1812.06127, equation 2), with the Fisher
    information as f that of EWC (Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3).

    Args:
        anchor: a, where the spring is at rest.
        strength: s.
        stiffness: f for each number; None means 1.
    """

    def __init__(self, anchor: Tensors, strength: float, stiffness: Tensors | None = None) -> None:
        self.anchor = anchor
        self.strength = strength
        self.stiffness = stiffness
        self._here: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {}

    def add(self, weights: Weights) -> None:
        """See :class:`GradientTerm`."""
        for key, weight in weights.items():
            if weight.grad is None:
                continue
            if key not in self._here:  # once a training, not once a step
                stiffness = 1.0 if self.stiffness is None else self.stiffness[key].to(weight)
                self._here[key] = (self.anchor[key].to(weight), stiffness)
            anchor, stiffness = self._here[key]
            weight.grad.add_((weight.detach() - anchor) * stiffness, alpha=self.strength)
