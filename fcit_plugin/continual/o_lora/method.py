"""O-LoRA: a LoRA for each stage, orthogonal to those of earlier stages."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from typing_extensions import override

from ...adapters.lora import Tensors
from ...knowledge.identity_tokens import ClientToken, SubspaceTokens
from ...knowledge.organizer import Assignment, Organizer
from ..method import ContinualMethod, Extras
from ..terms import GradientTerm, Weights
from .options import OLoraOptions

if TYPE_CHECKING:
    from ...adapters.aggregation import LoraAggregation
    from ...state.server_state import ServerState

_EARLIER = "earlier"


class OLora(ContinualMethod[OLoraOptions]):
    """O-LoRA (Wang et al. 2023, arXiv 2310.14152): orthogonal subspace learning.

    Each stage t trains a LoRA of its own; those of earlier stages are frozen and act beside it, at inference all act with
    weight 1. The rows of A span what a LoRA reacts to; the loss keeps them apart from the earlier ones',

        lambda_1 sum_{i<t} sum |A_i A_t^T|          (equations 6 and 7; summed in absolute value as in its code).
    """

    activation = "concat"
    joinable = False

    @override
    def organizer(self, stage: int) -> Organizer:
        return StageOrganizer(stage)

    @override
    def sends(self, state: "ServerState") -> Extras:
        return {f"{_EARLIER}-{k}": state.subspaces[k] for k in range(min(state.stage, len(state.subspaces)))}

    @override
    def frozen_subspaces(self, sent: Extras) -> list[Tensors]:
        return [sent[f"{_EARLIER}-{k}"] for k in range(len(sent)) if f"{_EARLIER}-{k}" in sent]

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


class StageOrganizer(Organizer):
    """Everyone trains the subspace of the stage.

    Args:
        stage: t, which is the number of its subspace.
    """

    def __init__(self, stage: int) -> None:
        super().__init__(threshold=1.0, max_subspaces=None)
        self.stage = stage

    @override
    def own_subspace(self, mean: np.ndarray, tokens: SubspaceTokens) -> int | None:
        return self.stage if tokens.num_subspaces > self.stage else None

    @override
    def assign(self, clients: Sequence[ClientToken], tokens: SubspaceTokens) -> Assignment:
        """Assign all clients to the stage's subspace, opened in its first round. Cosines play no part, they are NaN."""
        numbers = sorted(client.client for client in clients)
        opens = tokens.num_subspaces <= self.stage
        return Assignment(
            subspace=dict.fromkeys(numbers, self.stage),
            cosine=dict.fromkeys(numbers, math.nan),
            opened=(self.stage,) if opens else (),
        )
