"""Memory Aware Synapses: weights that the outputs depend on are held where they were."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from typing_extensions import override

from fcit_plugin.adapters.aggregation import LoraAggregation
from fcit_plugin.adapters.lora import Tensors, weighted_mean
from fcit_plugin.continual.method import ContinualMethod, Extras, TrainedModel, flat, record
from fcit_plugin.continual.record_limits import RecordLimits
from fcit_plugin.continual.terms import GradientTerm, Pull
from fcit_plugin.state.server_state import ServerState

from .parts import MasOptions

IMPORTANCE, ANCHOR = "mas_importance", "mas_anchor"


def squared_length(logits: torch.Tensor) -> torch.Tensor:
    """||f(x)||^2, the mean over the tokens of an answer, of logits [tokens, vocabulary]."""
    return logits.square().sum(dim=-1).mean()


class Mas(ContinualMethod[MasOptions]):
    """Memory Aware Synapses (Aljundi et al. 2018, arXiv 1711.09601), with the importance that all clients measure.

    In the last round of a stage each client measures on its own records, at the weights that it has trained,

        Omega_c = mean over records x of |d ||f(x)||^2 / dw|                equations 2 and 3, in their form of section 4.1

    with the logits of the answer's tokens as f(x). The answer itself does not enter: it is how much the outputs depend on a
    weight, not how right they are. The server adds sum n_c Omega_c / sum n_c to the sum over stages. Later stages add

        lambda sum_i Omega_i (w_i - a_i)^2                                  equation 4

    to their loss, where a are the weights at the end of the last stage.
    """

    limits: ClassVar[Mapping[str, RecordLimits]] = {IMPORTANCE: RecordLimits(least=0)}

    @override
    def wants(self, stage: int, round: int) -> tuple[str, ...]:
        return (IMPORTANCE,) if self.ends_stage(round) else ()

    @override
    def measure(self, model: TrainedModel) -> Extras:
        sums = {key: torch.zeros_like(weight, dtype=torch.float32) for key, weight in model.weights.items()}
        count = 0
        for _ in model.sample_gradients(self.options.fcit_mas_samples, of=squared_length):
            count += 1
            for key, weight in model.weights.items():
                if weight.grad is not None:
                    sums[key] += weight.grad.float().abs()
        return {IMPORTANCE: {key: (total / count).cpu() for key, total in sums.items()}}

    @override
    def remember(self, before: ServerState, after: ServerState, measured: Sequence[Extras], examples: Sequence[int]) -> Tensors:
        if not self.ends_stage(before.round):
            return before.method_state
        importance = weighted_mean([extras[IMPORTANCE] for extras in measured], examples)
        for key, earlier in record(IMPORTANCE, before.method_state).items():
            importance[key] = importance[key] + earlier
        return {**flat(IMPORTANCE, importance), **flat(ANCHOR, {**after.subspaces[0], **after.shared})}

    @override
    def sends(self, state: ServerState) -> Extras:
        return {name: record(name, state.method_state) for name in (IMPORTANCE, ANCHOR)} if state.method_state else {}

    @override
    def terms(self, sent: Extras) -> list[GradientTerm]:
        if IMPORTANCE not in sent:
            return []  # the first stage has nothing to hold
        return [Pull(sent[ANCHOR], 2 * self.options.fcit_mas_lambda, sent[IMPORTANCE])]  # Pull is s/2 f (w - a)^2

    @override
    def refuses(self, aggregation: LoraAggregation) -> str | None:
        if not aggregation.keeps_basis:
            return "holds single numbers of the factors, whose basis changes from round to round"
        return super().refuses(aggregation)
