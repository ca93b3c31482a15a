"""Server rules: one Flower strategy per subspace, and one for the shared trainables."""

from collections.abc import Callable

from flwr.serverapp.strategy import FedAvg, Strategy

from ..plugins import registry

#: Every participant of a round has been sampled already: a strategy takes all nodes that it sees.
_ALL_NODES = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}

SERVER_RULES: dict[str, Callable[[], Strategy]] = {"fedavg": lambda: FedAvg(**_ALL_NODES)}


class RuleSet:
    """Instances of one server rule, made on demand: one per subspace (its id) and one for what is shared.

    Args:
        name: A registered server rule (hook ``fcit_server_rules``).
    """

    SHARED = "shared"

    def __init__(self, name: str) -> None:
        self._make = registry("server_rules")[name]
        self._instances: dict[int | str, Strategy] = {}

    def __getitem__(self, owner: int | str) -> Strategy:
        if owner not in self._instances:
            self._instances[owner] = self._make()
        return self._instances[owner]
