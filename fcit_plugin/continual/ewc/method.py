"""EWC: weights that mattered for earlier stages are held where they were."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from typing_extensions import override

from ...adapters.lora import Tensors, weighted_mean
from ..method import ContinualMethod, Extras, TrainedModel, flat, record
from ..record_limits import RecordLimits
from ..terms import GradientTerm, Pull
from .options import EwcOptions

if TYPE_CHECKING:
    from ...adapters.aggregation import LoraAggregation
    from ...state.server_state import ServerState

FISHER, ANCHOR = "fisher", "anchor"


class Ewc(ContinualMethod[EwcOptions]):
    """Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796), with the Fisher information of all clients.

    In the last round of a stage each client measures the diagonal of the empirical Fisher information on its own records,
    at the weights that it has trained,

        F_c = mean over records of (d/dw (log p(answer | instruction) / length of the answer in tokens))^2,

    of the loss that is trained, which is a mean over tokens: the sum would weigh a caption by the square of its length
    against an answer of one word. The server adds sum n_c F_c / sum n_c to the sum over stages (the online form of
    Schwarz et al. 2018, arXiv 1805.06370, without decay). Later stages are held to the weights at the end of the last one, a:

        lambda/2 sum_i F_i (w_i - a_i)^2.
    """

    limits: ClassVar[Mapping[str, RecordLimits]] = {FISHER: RecordLimits(least=0, power=2)}  # a mean of squares

    @override
    def wants(self, stage: int, round: int) -> tuple[str, ...]:
        return (FISHER,) if self.ends_stage(round) else ()

    @override
    def sends(self, state: "ServerState") -> Extras:
        return {name: record(name, state.method_state) for name in (FISHER, ANCHOR)} if state.method_state else {}

    @override
    def remember(
        self, before: "ServerState", after: "ServerState", measured: Sequence[Extras], examples: Sequence[int]
    ) -> Tensors:
        if not self.ends_stage(before.round):
            return before.method_state
        fisher = weighted_mean([extras[FISHER] for extras in measured], examples)
        for key, earlier in record(FISHER, before.method_state).items():
            fisher[key] = fisher[key] + earlier
        return {**flat(FISHER, fisher), **flat(ANCHOR, {**after.subspaces[0], **after.shared})}

    @override
    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        if not aggregation.keeps_basis:
            return "holds single numbers of the factors, whose basis changes from round to round"
        return super().refuses(aggregation)

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        return [Pull(sent[ANCHOR], self.options.fcit_ewc_lambda, sent[FISHER])] if FISHER in sent else []

    @override
    def measure(self, model: TrainedModel) -> Extras:
        sums = {key: torch.zeros_like(weight, dtype=torch.float32) for key, weight in model.weights.items()}
        count = 0
        for _ in model.sample_gradients(self.options.fcit_ewc_samples):
            count += 1
            for key, weight in model.weights.items():
                if weight.grad is not None:
                    sums[key] += weight.grad.float() ** 2
        return {FISHER: {key: (total / count).cpu() for key, total in sums.items()}}
