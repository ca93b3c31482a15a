"""C-LoRA: a LoRA for each stage, which is held back where those of earlier stages have changed the weights."""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ...adapters.lora import Tensors
from ..method import Extras
from ..stage_loras import StageLoras
from ..terms import GradientTerm, Weights
from .options import CLoraOptions


class CLora(StageLoras[CLoraOptions]):
    """Continually self-regularized LoRA (Smith et al. 2023, https://arxiv.org/abs/2304.06027).

    Each stage t trains a LoRA of its own; those of earlier stages are frozen and act beside it, at inference all act with
    weight 1. A weight may change all the less the more the earlier ones have changed it,

        lambda || |sum_{i<t} B_i A_i| * B_t A_t ||^2   (number by number; the paper's L_forget, in whose letters it is A B),

    summed over the layers, without LoRA's scale.
    """

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        earlier = self.frozen_subspaces(sent)
        return [SelfRegularization(earlier, self.options.fcit_c_lora_lambda)] if earlier else []


class SelfRegularization(GradientTerm):
    """lambda ||D * B A||^2 with D = |sum_i B_i A_i|: by B A its gradient is G = 2 lambda D^2 * B A, by B G A^T, by A B^T G.

    Args:
        earlier: The frozen subspaces.
        strength: lambda.
    """

    def __init__(self, earlier: Sequence[Tensors], strength: float) -> None:
        self.strength = strength
        # side by side the factors give the sum; D itself is as large as the layer, and is made again in each step
        self._factors = {
            key: (torch.cat([state[key] for state in earlier]), torch.cat([state[_other(key)] for state in earlier], dim=1))
            for key in earlier[0]
            if ".lora_A." in key
        }

    @override
    def add(self, weights: Weights) -> None:
        for key, factors in self._factors.items():
            a, b = weights[key], weights[_other(key)]
            if a.grad is None and b.grad is None:
                continue
            rows, columns = self._factors[key] = factors[0].to(a), factors[1].to(b)
            by_product = (columns @ rows).square_().mul_(b.detach() @ a.detach()).mul_(2 * self.strength)
            if a.grad is not None:
                a.grad.add_(b.detach().T @ by_product)
            if b.grad is not None:
                b.grad.add_(by_product @ a.detach().T)


def _other(key: str) -> str:
    return key.replace(".lora_A.", ".lora_B.")
