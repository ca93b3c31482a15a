"""The server rules that are there, by the name that ``fcit_server_rule`` takes, with their keys; no torch, no Flower.

Defaults of the adaptive rules are OpenFedLLM's for LoRA (arXiv 2402.06954); Flower's, made for whole models, would move LoRA
weights by a hundred times their size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from ..arguments.option import Options, option
from ..continual.limits import WHOLE_GRADIENTS
from ..parts import ServerRule

if TYPE_CHECKING:
    from ..arguments import FcitArguments


@dataclass
class FedProxOptions(Options):
    """Key of ``fcit_server_rule: fedprox``."""

    fcit_proximal_mu: float = option(0.01, "Weight of the term that holds a client to where it started.", above=0)


@dataclass
class FedAvgMOptions(Options):
    """Keys of ``fcit_server_rule: fedavgm``."""

    fcit_server_learning_rate: float = option(1.0, "Learning rate of the server.", above=0)
    fcit_server_momentum: float = option(0.9, "Momentum of the server.", least=0, below=1)


@dataclass
class AdaptiveOptions(Options):
    """Keys of ``fcit_server_rule: fedadagrad``."""

    fcit_server_learning_rate: float = option(1e-3, "Learning rate of the server.", above=0)
    fcit_server_tau: float = option(1e-3, "What is added to the root of the second moment.", above=0)


@dataclass
class MomentOptions(AdaptiveOptions):
    """Keys of ``fcit_server_rule: fedadam`` and ``fedyogi``."""

    fcit_server_beta1: float = option(0.9, "Decay of the first moment.", least=0, below=1)
    fcit_server_beta2: float = option(0.99, "Decay of the second moment.", least=0, below=1)


@dataclass
class TrimmedMeanOptions(Options):
    """Key of ``fcit_server_rule: trimmed_mean``."""

    fcit_trim_fraction: float = option(
        0.2, "Share of the replies that is taken off at either end, for each number.", above=0, below=0.5
    )


@dataclass
class KrumOptions(Options):
    """Key of ``fcit_server_rule: krum`` and ``multi_krum``."""

    fcit_num_malicious: int | None = option(
        None, "How many bad clients of a round the rule withstands; none: as many as it can.", least=0
    )

    @override
    def complete(self, args: "FcitArguments") -> None:
        if self.fcit_num_malicious is None:
            self.fcit_num_malicious = max((args.fcit_clients_per_round - 3) // 2, 0)


def _trims_one(options: TrimmedMeanOptions) -> int:
    """Fewest replies of which at least one is taken off at either end."""
    return math.ceil(1 / options.fcit_trim_fraction - 1e-9)


def _outvotes(options: KrumOptions) -> int:
    """2 f + 3 replies with f bad ones (Blanchard et al. 2017, arXiv 1703.02757)."""
    assert options.fcit_num_malicious is not None  # filled in when the recipe was read
    return 2 * options.fcit_num_malicious + 3


_RULES = "fcit_plugin.federation.rules"
_WHOLE = {"deepspeed": WHOLE_GRADIENTS, "fp16": WHOLE_GRADIENTS}

SERVER_RULES: Mapping[str, ServerRule] = {
    "fedavg": ServerRule(f"{_RULES}:fedavg", averages=True, sees_mean_alone=True),
    "fedprox": ServerRule(f"{_RULES}:fedprox", FedProxOptions, _WHOLE, averages=True, sees_mean_alone=True),
    "scaffold": ServerRule(
        f"{_RULES}:scaffold",
        cannot_go_with={**_WHOLE, "fcit_dp_clipping_norm": "has clients send more than their clipped update"},
        averages=True,
        remembers_numbers=True,
    ),
    "fedavgm": ServerRule(f"{_RULES}:fedavgm", FedAvgMOptions, remembers_numbers=True, sees_mean_alone=True),
    "fedadam": ServerRule(f"{_RULES}:fedadam", MomentOptions, remembers_numbers=True, sees_mean_alone=True),
    "fedyogi": ServerRule(f"{_RULES}:fedyogi", MomentOptions, remembers_numbers=True, sees_mean_alone=True),
    "fedadagrad": ServerRule(f"{_RULES}:fedadagrad", AdaptiveOptions, remembers_numbers=True, sees_mean_alone=True),
    "fedmedian": ServerRule(f"{_RULES}:fedmedian", robust_from=lambda options: 3),
    "trimmed_mean": ServerRule(f"{_RULES}:trimmed_mean", TrimmedMeanOptions, robust_from=_trims_one),
    "krum": ServerRule(f"{_RULES}:krum", KrumOptions, robust_from=_outvotes),
    "multi_krum": ServerRule(f"{_RULES}:multi_krum", KrumOptions, robust_from=_outvotes),
}
