"""Key of compression: in how many bytes clients send their updates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class CompressionArguments:
    """What travels of a client's update."""

    fcit_update_compression: str = option(
        "none",
        "What clients send of their weights: none (the weights, float32), bf16 (their change in half the bytes) or int8 (in a "
        "quarter; each client keeps what rounding takes for its next update).",
        choices=["none", "bf16", "int8"],
    )


def check_compression(args: "FcitArguments") -> None:
    """Refuse what does not go together."""
    remembers = args.fcit_update_compression == "int8"
    if remembers and not args.part("lora_aggregations").make_one().keeps_basis:
        refuse(
            "`fcit_update_compression: int8` has clients carry over what rounding took from single numbers of B and A, and "
            f"`fcit_lora_aggregation: {args.fcit_lora_aggregation}` changes what these mean in every round; take bf16, or "
            "change the aggregation."
        )
    if args.fcit_client_dir is not None and not remembers:
        refuse(
            "`fcit_client_dir` is where a client keeps what `fcit_update_compression: int8` has it carry over, and with "
            f"{args.fcit_update_compression} there is nothing to keep; take it out."
        )
