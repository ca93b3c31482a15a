"""Key of the LoRA aggregation: what becomes of the factors A and B that clients return."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..parts import Part, ServerRule
from ..plugins import registry
from .option import option
from .reasons import refuse

if TYPE_CHECKING:
    from ..adapters.aggregation import LoraAggregation
    from . import FcitArguments


@dataclass
class LoraAggregationArguments:
    """How a subspace is made of its clients' factors."""

    fcit_lora_aggregation: str = option(
        "factors",
        "How one LoRA is made of the clients': factors (A and B averaged apart), refactor (so, and their product gets new "
        "factors), ffa (A is never trained), rotate (rounds train B and A in turn), svd (the products are averaged and cut to "
        "the rank), exact (what the averaged factors lack goes into the base weights), stack (the products go there, and the "
        "LoRA begins again), or a registered one.",
    )


def check_lora_aggregation(args: "FcitArguments") -> None:
    """Refuse what does not go together."""
    aggregation = args.part("lora_aggregations").make_one()
    reason = args.part("methods").load()(args).refuses(aggregation)
    if reason is not None:
        refuse(
            f"`fcit_method: {args.fcit_method}` {reason}; it does not go with `fcit_lora_aggregation: "
            f"{args.fcit_lora_aggregation}`, change one of them."
        )
    fitting = [name for name, rule in registry("server_rules").items() if _goes_with(aggregation, rule)]
    if args.fcit_server_rule not in fitting:
        why = (
            f"takes the mean of the products B A, and `fcit_server_rule: {args.fcit_server_rule}` would do something else to "
            "the single numbers of B and A"
            if aggregation.averages_products
            else f"changes what the single numbers of B and A mean in every round, and `fcit_server_rule: "
            f"{args.fcit_server_rule}` remembers something of them"
        )
        refuse(
            f"`fcit_lora_aggregation: {args.fcit_lora_aggregation}` {why}; set `fcit_server_rule` to "
            f"{' or '.join(fitting)}, or change the aggregation."
        )
    if aggregation.averages_products and args.fcit_dp_noise_multiplier is not None:
        refuse(
            f"`fcit_dp_noise_multiplier` hides a client in the mean of the factors; `fcit_lora_aggregation: "
            f"{args.fcit_lora_aggregation}` needs each client's own product. Take factors, refactor, ffa or rotate."
        )


def _goes_with(aggregation: "LoraAggregation", rule: Part) -> bool:
    """Whether a server rule does nothing to the single numbers of B and A that the aggregation makes no sense of."""
    if aggregation.keeps_basis and not aggregation.averages_products:
        return True
    if not isinstance(rule, ServerRule):
        return False
    return (rule.averages or not aggregation.averages_products) and (aggregation.keeps_basis or not rule.remembers_numbers)
