"""MoELoRA: one LoRA as a mixture of experts."""

from typing import TYPE_CHECKING

from typing_extensions import override

from ...adapters.lora import ADAPTER
from ..method import ContinualMethod
from .options import MoeLoraOptions

if TYPE_CHECKING:
    from peft import PeftModel

    from ...adapters.aggregation import LoraAggregation


class MoeLora(ContinualMethod[MoeLoraOptions]):
    """MoELoRA as in CoIN (Chen et al. 2024, arXiv 2403.08350, section 4): the rank of one LoRA in experts.

    A router in each layer weighs the experts for each token (:mod:`...adapters.experts`); it is averaged over the clients
    like the factors. There is no loss for a balanced load, as there.
    """

    joinable = False
    acts_as_product = False

    @override
    def refuses(self, aggregation: "LoraAggregation") -> str | None:
        trains_a = any("A" in aggregation.trains(rounds) for rounds in range(2))
        return super().refuses(aggregation) if trains_a else "has its routers beside the factors A, which are not trained"

    @override
    def prepare(self, model: "PeftModel") -> None:
        from ...adapters.experts import divide  # only now: recipes are checked without PEFT

        divide(model, ADAPTER, self.options.fcit_num_experts)
