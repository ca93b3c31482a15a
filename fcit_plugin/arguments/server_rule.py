"""Key of the server rule: how the updates of a subspace become one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .option import option
from .reasons import refuse

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class ServerRuleArguments:
    """The rule; what there is to choose about it are keys of its own."""

    fcit_server_rule: str = option(
        "fedavg", "Rule that makes one of a subspace's updates (`fcit-cli plugins` lists them, with their keys)."
    )


def check_server_rule(args: "FcitArguments") -> None:
    """Refuse a rule that withstands nothing with so few clients."""
    if args.fcit_clients_per_round < args.robust_from:
        refuse(
            f"`fcit_server_rule: {args.fcit_server_rule}` withstands bad clients from {args.robust_from} replies on, as it is "
            f"set up; `fcit_clients_per_round` is {args.fcit_clients_per_round}. Ask more clients, or change the rule."
        )
