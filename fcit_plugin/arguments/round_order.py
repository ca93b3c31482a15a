"""Keys of the order in which a round's clients train."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import option
from .reasons import Unfit, refuse, refuse_beside

if TYPE_CHECKING:
    from . import FcitArguments

#: Values of ``fcit_round_order``.
PARALLEL, RELAY = "parallel", "relay"
#: Values of ``fcit_schedule_over``.
OF_CLIENT, OF_CHAIN, OF_STAGE = "client", "chain", "stage"


@dataclass
class RoundOrderArguments:
    """Who of a round begins with what."""

    fcit_round_order: str = option(
        PARALLEL,
        "How the clients of a round train that have one subspace: parallel (all begin with the same weights, and what they "
        "return is averaged) or relay (one after the other, each begins with what the one before it has returned).",
        choices=[PARALLEL, RELAY],
    )
    fcit_schedule_over: str = option(
        OF_CLIENT,
        "Over what the learning rate's schedule goes: client (each training has one of its own), chain (with fcit_round_order "
        "relay: client i of n trains with the i-th of n pieces of one) or stage (the rounds of a stage share one in this way, "
        "and in a relay the clients of each round their piece of it).",
        choices=[OF_CLIENT, OF_CHAIN, OF_STAGE],
    )


#: What does not go with a relay.
CANNOT_RELAY: Unfit = {
    "fcit_secure_sum": (
        lambda args: args.fcit_secure_sum,
        "masks what a client returns, and in a relay the next client begins with that",
    ),
    "fcit_server_rule": (
        lambda args: not args.server_rule.sees_mean_alone,
        "makes more of a subspace's updates than their mean, and in a relay there is one update of all its clients",
    ),
    "fcit_dp_clipping_norm": (
        lambda args: args.fcit_dp_clipping_norm is not None,
        "bounds what a client changes by itself, and in a relay it also changes what those after it return",
    ),
}


def check_round_order(args: "FcitArguments") -> None:
    """Refuse what does not go with a relay, each by name."""
    if args.fcit_round_order != RELAY:
        if args.fcit_schedule_over == OF_CHAIN:
            refuse(
                f"`fcit_schedule_over: {args.fcit_schedule_over}` belongs to `fcit_round_order: {RELAY}`; take it out, or "
                "set that."
            )
        return
    refuse_beside(args, f"fcit_round_order: {RELAY}", CANNOT_RELAY)
