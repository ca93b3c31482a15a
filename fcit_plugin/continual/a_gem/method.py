"""A-GEM: no step may go against the gradient of records that a client keeps of earlier tasks."""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ..method import ContinualMethod, Memory
from ..terms import GradientTerm, Weights
from .options import AGemOptions


class AGem(ContinualMethod[AGemOptions]):
    """Averaged gradient episodic memory (Chaudhry et al. 2019, https://arxiv.org/abs/1812.00420, equation 11).

    A client keeps m records of each task that it has worked on in earlier stages, and does not train on them. Before each
    step it takes the gradient g_ref of the loss of a batch of them; where the step's gradient g would raise that loss, g is
    projected on the nearest one that would not,

        g~ = g - (g . g_ref) / (g_ref . g_ref) g_ref   where g . g_ref < 0,   else g.

    Like ``replay`` it breaks the rule of the setting that a client which moves on no longer has the old data.
    """

    rehearses = False

    @override
    def num_remembered(self) -> int:
        return self.options.fcit_a_gem_samples

    @override
    def memory_terms(self, memory: Memory) -> list[GradientTerm]:
        return [Projection(memory, self.options.fcit_a_gem_batch_size)]


class Projection(GradientTerm):
    """Makes of g the nearest g~ with g~ . g_ref >= 0, over all weights as one vector.

    Args:
        memory: Gives g_ref.
        count: Records that it is drawn from.
    """

    def __init__(self, memory: Memory, count: int) -> None:
        self.memory = memory
        self.count = count

    @override
    def add(self, weights: Weights) -> None:
        reference = self.memory.gradient(self.count)
        pairs = [(weights[key].grad, value) for key, value in reference.items()]
        there = [(gradient, value.to(gradient)) for gradient, value in pairs if gradient is not None]
        if not there:
            return
        along, square = _dot(there), _dot([(value, value) for _, value in there])
        # no branch: to look at the sign would wait for the device in every step
        share = along.clamp(max=0) / square.clamp(min=torch.finfo(torch.float32).tiny)
        for gradient, value in there:
            gradient.sub_(share.to(gradient.device) * value)


def _dot(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The product of two vectors in parts, which may lie on several devices."""
    device = pairs[0][0].device
    return torch.stack([torch.sum(one * other, dtype=torch.float32).to(device) for one, other in pairs]).sum()
