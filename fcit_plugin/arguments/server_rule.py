"""Key of the server rule: how the updates of a subspace become one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FcitError
from .option import option

if TYPE_CHECKING:
    from . import FcitArguments


@dataclass
class ServerRuleArguments:
    """The rule; what there is to choose about it are keys of its own."""

    fcit_server_rule: str = option(
        "fedavg", "Rule that makes one of a subspace's updates (`fcit-cli plugins` lists them, with their keys)."
    )

    def parse(self) -> None:
        """Nothing comes as text."""

    def check(self: "FcitArguments") -> None:
        """Refuse a rule that withstands nothing with so few clients."""
        if self.fcit_clients_per_round < self.robust_from:
            raise FcitError(
                f"`fcit_server_rule: {self.fcit_server_rule}` withstands bad clients from {self.robust_from} replies on, as it is "
                f"set up; `fcit_clients_per_round` is {self.fcit_clients_per_round}. Ask more clients, or change the rule."
            )

    @property
    def robust_from(self: "FcitArguments") -> int:
        """Fewest replies with which the rule withstands what it is set up for; 0 for a rule that promises nothing."""
        rule = self.part("server_rules")
        return 0 if rule.robust_from is None else rule.robust_from(self.options("server_rules"))
