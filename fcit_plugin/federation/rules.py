"""Server rules: one Flower strategy per subspace, and one for the shared trainables."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.serverapp.strategy import FedAvg, Strategy

from ..plugins import registry

#: Every participant of a round has been sampled already: a strategy takes all nodes that it sees.
_ALL_NODES = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}

SERVER_RULES: dict[str, Callable[[], Strategy]] = {"fedavg": lambda: FedAvg(**_ALL_NODES)}


class RuleSet:
    """Instances of one server rule, made on demand: one per subspace (its id) and one for what is shared.

    A set lives for one round. What its rules remember for the next one (the momenta of FedAdam, say) goes
    through :meth:`to_arrays` into the server's state, so a run that goes on from a file is no other case.

    Args:
        name: A registered server rule (hook ``fcit_server_rules``).
        arrays: What the rules remember, from :meth:`to_arrays`.
    """

    SHARED = "shared"

    def __init__(self, name: str, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self._make = registry("server_rules")[name]
        self._instances: dict[str, Strategy] = {}
        self._arrays = dict(arrays or {})

    def __getitem__(self, owner: int | str) -> Strategy:
        owner = str(owner)
        if owner not in self._instances:
            self._instances[owner] = rule = self._make()
            start = f"{owner}/"
            _recall(rule, {key[len(start) :]: a for key, a in self._arrays.items() if key.startswith(start)})
        return self._instances[owner]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What the rules remember, by ``owner/key``, for safetensors; empty for rules without memory."""
        arrays = {key: a for key, a in self._arrays.items() if key.partition("/")[0] not in self._instances}
        for owner, rule in self._instances.items():
            arrays |= {f"{owner}/{key}": a for key, a in _memory(rule, self._make()).items()}
        return dict(sorted(arrays.items()))

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> "RuleSet":
        """Rebuild the rules from `to_arrays`."""
        return cls(name, arrays)


#: Set anew by ``configure_train`` in every round: the weights sent out, which the state holds anyway.
_OF_THE_ROUND = "current_arrays"


def _memory(rule: Strategy, fresh: Strategy) -> dict[str, np.ndarray]:
    """The arrays and numbers on a strategy that a fresh one has not: ``name``, ``name/key`` or ``name[index]``."""
    found: dict[str, Any] = {}
    for name, value in vars(rule).items():
        if name == _OF_THE_ROUND:
            continue
        if isinstance(value, dict):
            found |= {f"{name}/{key}": item for key, item in value.items() if isinstance(item, np.ndarray)}
        elif isinstance(value, list):
            found |= {f"{name}[{i}]": item for i, item in enumerate(value) if isinstance(item, np.ndarray)}
        elif isinstance(value, np.ndarray) or (isinstance(value, float) and value != vars(fresh).get(name)):
            found[name] = value
    return {key: np.array(value) for key, value in found.items()}


def _recall(rule: Strategy, arrays: Mapping[str, np.ndarray]) -> None:
    """Put back what :func:`_memory` took off; list entries come in the order of their index."""
    lists: dict[str, dict[int, np.ndarray]] = {}
    dicts: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        if match := re.fullmatch(r"(\w+)\[(\d+)\]", key):
            lists.setdefault(match[1], {})[int(match[2])] = value
        elif "/" in key:
            name, _, inner = key.partition("/")
            dicts.setdefault(name, {})[inner] = value
        else:
            setattr(rule, key, value if value.ndim else value.item())
    for name, entries in lists.items():
        setattr(rule, name, [entries[i] for i in sorted(entries)])
    for name, entries in dicts.items():
        setattr(rule, name, entries)
