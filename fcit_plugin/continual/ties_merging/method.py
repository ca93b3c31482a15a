"""TIES merging: the stages' changes of one LoRA become one, without those that contradict each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from peft.utils.merge_utils import ties
from typing_extensions import override

from ...adapters.lora import Tensors
from ..method import ContinualMethod, Extras, flat, record
from .options import TiesMergingOptions

if TYPE_CHECKING:
    from ...adapters.aggregation import LoraAggregation
    from ...state.server_state import ServerState

_ORIGIN = "origin"


class TiesMerging(ContinualMethod[TiesMergingOptions]):
    """TIES merging between stages (Yadav et al. 2023, https://arxiv.org/abs/2306.01708, algorithm 1), by PEFT's ``ties``.

    With w_0 the LoRA as it was drawn and w_s the one that stage s has trained, tau_s = w_s - w_0. At the end of stage t > 0

    - trim: of all numbers of tau_s its largest share k stays, tau^_s, and the others become 0;
    - elect sign: gamma = sgn(sum_{s<=t} tau^_s), number by number;
    - disjoint mean: tau = the mean of those tau^_s whose sign is gamma, 0 where there is none.

    w_0 + lambda tau is what answers, and what the next stage starts from; the paper's models start from w_0 themselves.
    The first stage has nothing to be merged with and stays as it is. Shared trainables (a projector) are tuned on.
    """

    @override
    def remember(
        self, before: "ServerState", after: "ServerState", measured: Sequence[Extras], examples: Sequence[int]
    ) -> Tensors:
        memory = before.method_state
        if not before.subspaces:  # no client has trained yet
            return memory
        if not memory:
            memory = flat(_ORIGIN, before.subspaces[0])
        return {**memory, **flat(_stage(before.stage), after.subspaces[0])} if self.ends_stage(before.round) else memory

    @override
    def merged(self, after: "ServerState") -> list[Tensors]:
        origin = record(_ORIGIN, after.method_state)
        found = (record(_stage(t), after.method_state) for t in range(after.stage + 1))
        trained = [weights for weights in found if weights]  # a stage whose last round nobody has trained left none
        if not self.ends_stage(after.round) or len(trained) < 2:
            return after.subspaces
        keys = sorted(origin)
        changes = [torch.cat([(weights[key] - origin[key]).float().flatten() for key in keys]) for weights in trained]
        tau = ties(changes, torch.ones(len(changes)), self.options.fcit_ties_density)
        parts = torch.split(self.options.fcit_ties_lambda * tau, [origin[key].numel() for key in keys])
        moved = {key: part.view_as(origin[key]) for key, part in zip(keys, parts, strict=True)}
        return [{key: (origin[key] + moved[key]).to(value.dtype) for key, value in after.subspaces[0].items()}]

    @override
    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        if not aggregation.keeps_basis:
            return "merges single numbers of the factors, whose basis changes from round to round"
        if aggregation.changes_base:
            return "merges what the stages have changed in the factors, and a change of the base weights would stay unmerged"
        return super().refuses(aggregation)


def _stage(number: int) -> str:
    return f"stage-{number}"
