"""Keys of the server rule: how the updates of a subspace become one."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import FcitError
from .option import check_at_least, check_positive, option, settle_parameters

#: For each rule of our own the keys that it takes, with its defaults. Those of the adaptive rules are OpenFedLLM's for
#: LoRA (arXiv 2402.06954); Flower's, made for whole models, would move LoRA weights by a hundred times their size.
_ADAPTIVE = {"fcit_server_learning_rate": 1e-3, "fcit_server_tau": 1e-3}
PARAMETERS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"fcit_proximal_mu": 0.01},
    "scaffold": {},
    "fedavgm": {"fcit_server_learning_rate": 1.0, "fcit_server_momentum": 0.9},
    "fedadam": {**_ADAPTIVE, "fcit_server_beta1": 0.9, "fcit_server_beta2": 0.99},
    "fedyogi": {**_ADAPTIVE, "fcit_server_beta1": 0.9, "fcit_server_beta2": 0.99},
    "fedadagrad": _ADAPTIVE,
    "fedmedian": {},
    "trimmed_mean": {"fcit_trim_fraction": 0.2},
    "krum": {"fcit_num_malicious": None},
    "multi_krum": {"fcit_num_malicious": None},
}
#: Rules that hold whatever a few clients send; one client's share of the result is not bounded by its share of the replies.
ROBUST = ("fedmedian", "trimmed_mean", "krum", "multi_krum")


@dataclass
class ServerRuleArguments:
    """The rule, and what there is to choose about it."""

    fcit_server_rule: str = option(
        "fedavg", f"Rule that makes one of a subspace's updates: {', '.join(PARAMETERS)}, or a registered one."
    )
    fcit_server_learning_rate: float | None = option(
        None, "Server learning rate of fedavgm (default 1), fedadam, fedyogi and fedadagrad (default 0.001)."
    )
    fcit_server_momentum: float | None = option(None, "Server momentum of fedavgm (default 0.9).")
    fcit_server_beta1: float | None = option(None, "Decay of the first moment in fedadam and fedyogi (default 0.9).")
    fcit_server_beta2: float | None = option(None, "Decay of the second moment in fedadam and fedyogi (default 0.99).")
    fcit_server_tau: float | None = option(
        None, "What is added to the root of the second moment in fedadam, fedyogi and fedadagrad (default 0.001)."
    )
    fcit_trim_fraction: float | None = option(
        None, "Share of the replies that trimmed_mean takes off at either end, for each number (default 0.2)."
    )
    fcit_num_malicious: int | None = option(
        None, "How many bad clients of a round krum and multi_krum withstand (default: as many as they can)."
    )
    fcit_proximal_mu: float | None = option(
        None, "Weight of fedprox's term that holds a client to where it started (default 0.01)."
    )

    def parse(self) -> None:
        """Nothing comes as text."""

    def check(self) -> None:
        """Refuse values that cannot work and keys of another rule, and fill in the rule's defaults."""
        settle_parameters(self, "fcit_server_rule", "rule", PARAMETERS)
        if "fcit_num_malicious" in PARAMETERS.get(self.fcit_server_rule, {}) and self.fcit_num_malicious is None:
            self.fcit_num_malicious = max((self.fcit_clients_per_round - 3) // 2, 0)
        check_positive(self, "fcit_server_learning_rate", "fcit_server_tau", "fcit_trim_fraction", "fcit_proximal_mu")
        check_at_least(self, 0, "fcit_num_malicious")
        for key, end in (
            ("fcit_server_momentum", 1),
            ("fcit_server_beta1", 1),
            ("fcit_server_beta2", 1),
            ("fcit_trim_fraction", 0.5),
        ):
            if getattr(self, key) is not None and not 0 <= getattr(self, key) < end:
                raise FcitError(f"`{key}` must be from 0 to less than {end}, got {getattr(self, key)}.")
        if self.fcit_clients_per_round < self.robust_from:
            raise FcitError(
                f"`fcit_server_rule: {self.fcit_server_rule}` withstands bad clients from {self.robust_from} replies on, as it is "
                f"set up; `fcit_clients_per_round` is {self.fcit_clients_per_round}. Ask more clients, or change the rule."
            )

    @property
    def robust_from(self) -> int:
        """Fewest replies with which the rule withstands what it is set up for; 0 for a rule that promises nothing."""
        return {
            "fedmedian": lambda: 3,
            "trimmed_mean": lambda: math.ceil(1 / self.fcit_trim_fraction - 1e-9),
            "krum": lambda: 2 * self.fcit_num_malicious + 3,
            "multi_krum": lambda: 2 * self.fcit_num_malicious + 3,
        }.get(self.fcit_server_rule, lambda: 0)()
