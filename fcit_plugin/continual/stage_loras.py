"""A LoRA for each stage, of which the earlier ones are frozen and act beside it: what methods of this kind share."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from ..adapters.lora import Tensors
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens
from ..knowledge.organizer import Assignment, Organizer
from .method import ContinualMethod, Extras, OptionsT

if TYPE_CHECKING:
    from ..state.server_state import ServerState

_EARLIER = "earlier"


class StageLoras(ContinualMethod[OptionsT]):
    """Each stage t trains a LoRA of its own; those of earlier stages are frozen and act beside it, at inference all do."""

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
