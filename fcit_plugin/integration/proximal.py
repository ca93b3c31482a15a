"""The client's side of FedProx."""

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState


class Proximal(TrainerCallback):
    """Holds a client to the weights that it started from.

    FedProx (Li et al. 2020, arXiv 1812.06127, equation 2) adds mu/2 ||w - w_t||^2 to the client's loss. Its gradient
    mu (w - w_t) is added to that of the loss before each optimizer step, after that one was clipped; so it is the same
    however the loss of a step is put together from micro-batches.

    Args:
        mu: Weight of the term.
    """

    def __init__(self, mu: float) -> None:
        self.mu = mu
        self._start: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, model=None, **kwargs) -> None:
        """Remember w_t."""
        self._start = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad]

    def on_pre_optimizer_step(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Add the term's gradient."""
        for weight, start in self._start:
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - start, alpha=self.mu)
