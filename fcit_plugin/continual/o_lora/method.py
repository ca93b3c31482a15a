"""O-LoRA: a LoRA for each stage, orthogonal to those of earlier stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from typing_extensions import override

from ...adapters.lora import Tensors
from ..method import Extras
from ..stage_loras import StageLoras
from ..terms import GradientTerm, Weights
from .options import OLoraOptions

if TYPE_CHECKING:
    from ...adapters.aggregation import LoraAggregation


class OLora(StageLoras[OLoraOptions]):
    """O-LoRA (Wang et al. 2023, arXiv 2310.14152): orthogonal subspace learning.

    Each stage t trains a LoRA of its own; those of earlier stages are frozen and act beside it, at inference all act with
    weight 1. The rows of A span what a LoRA reacts to; the loss keeps them apart from the earlier ones',

        lambda_1 sum_{i<t} sum |A_i A_t^T|          (equations 6 and 7; summed in absolute value as in its code).
    """

    @override
    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        trains_a = any("A" in aggregation.trains(rounds) for rounds in range(2))
        return super().refuses(aggregation) if trains_a else "keeps the factors A of its stages apart, which are not trained"

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        earlier = self.frozen_subspaces(sent)
        return [Orthogonality(earlier, self.options.fcit_o_lora_lambda)] if earlier else []


class Orthogonality(GradientTerm):
    """lambda sum_i sum |A_i A^T|, whose gradient by A is lambda sum_i sign(A A_i^T) A_i.

    Args:
        earlier: The frozen subspaces.
        strength: lambda.
    """

    def __init__(self, earlier: Sequence[Tensors], strength: float) -> None:
        self.strength = strength
        keys = [key for key in earlier[0] if ".lora_A." in key]
        self._rows = {key: torch.cat([state[key] for state in earlier]) for key in keys}

    @override
    def add(self, weights: Weights) -> None:
        for key, rows in self._rows.items():
            weight = weights[key]
            if weight.grad is not None:
                rows = self._rows[key] = rows.to(weight)
                weight.grad.add_(torch.sign(weight.detach() @ rows.T) @ rows, alpha=self.strength)
