"""Server rules: one Flower strategy per subspace, and one for the shared trainables.

The rules are Flower's own. Ours are only: SCAFFOLD (:mod:`.scaffold`), a step count of its own for each subspace's FedAdam,
Krum's distances in float64, and Multi-Krum's number of replies from how many there are.
"""

import functools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    Strategy,
)

from ..adapters.lora import Tensors
from ..arguments import FcitArguments
from ..continual.record_limits import RecordLimits
from ..continual.terms import GradientTerm, Pull
from ..errors import FcitError
from .in_process_grid import InProcessGrid
from .messages import ClientConfig, to_state
from .scaffold import CORRECTION, Correction, Scaffold

logger = logging.getLogger(__name__)

Aggregated = tuple[ArrayRecord | None, MetricRecord | None]

_KIND = "server_rules"
#: Under this name Flower's FedProx tells clients the weight of its term.
PROXIMAL_MU = "proximal-mu"
#: Every participant of a round has been sampled already: a strategy takes all nodes that it sees.
ALL_NODES: "AllNodes" = {"fraction_train": 1.0, "min_train_nodes": 1, "min_available_nodes": 1}


class AllNodes(TypedDict):
    """How many nodes a strategy takes."""

    fraction_train: float
    min_train_nodes: int
    min_available_nodes: int


class _Adaptive(AllNodes):
    eta: float
    tau: float


class _Moments(_Adaptive):
    beta_1: float
    beta_2: float


@runtime_checkable
class RemembersItself(Protocol):
    """A strategy that says what it remembers from round to round."""

    def state(self) -> Mapping[str, np.ndarray]:
        """What it remembers, by names of its own."""
        ...

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up what an earlier instance remembered, from :meth:`state`."""
        ...


class PerSubspaceFedAdam(FedAdam):
    """FedAdam whose bias correction counts the updates of its own subspace.

    Flower corrects by the number of the server's round; a subspace that opens late, or rests, has made fewer updates.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = 0.0

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Aggregated:
        """See :class:`flwr.serverapp.strategy.FedAdam`."""
        self.steps += 1
        return super().aggregate_train(int(self.steps), replies)


class Float64Krum(Krum):
    """Krum on float64: Flower takes squared distances as differences of squared norms.

    In float32 these have lost the small differences between updates of weights that are far from zero.
    """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Aggregated:
        """See :class:`flwr.serverapp.strategy.Krum`."""
        return super().aggregate_train(server_round, _in_float64(replies))


class SelectBenignMultiKrum(MultiKrum):
    """Multi-Krum that averages all replies but the ``num_malicious_nodes`` worst ones, in float64."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Aggregated:
        """See :class:`flwr.serverapp.strategy.MultiKrum`."""
        replies = _in_float64(replies)
        self.num_nodes_to_select = max(1, len(replies) - self.num_malicious_nodes)
        return super().aggregate_train(server_round, replies)

    def state(self) -> Mapping[str, np.ndarray]:
        """Nothing: how many it selects is told again in each round."""
        return {}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing to take up."""


def _in_float64(replies: Iterable[Message]) -> list[Message]:
    for reply in replies:
        for name, record in reply.content.array_records.items():
            reply.content[name] = ArrayRecord({key: Array(a.numpy().astype(np.float64)) for key, a in record.items()})
    return list(replies)


def fedavg(args: FcitArguments) -> Strategy:
    """McMahan et al. 2017, arXiv 1602.05629."""
    return FedAvg(**ALL_NODES)


def fedprox(args: FcitArguments) -> Strategy:
    """Li et al. 2020, arXiv 1812.06127."""
    return FedProx(**ALL_NODES, proximal_mu=args.options(_KIND).fcit_proximal_mu)


def scaffold(args: FcitArguments) -> Strategy:
    """Karimireddy et al. 2020, arXiv 1910.06378 (:mod:`.scaffold`)."""
    return Scaffold(**ALL_NODES, num_clients=args.fcit_num_clients)


def fedavgm(args: FcitArguments) -> Strategy:
    """Hsu et al. 2019, arXiv 1909.06335."""
    options = args.options(_KIND)
    return FedAvgM(
        **ALL_NODES, server_learning_rate=options.fcit_server_learning_rate, server_momentum=options.fcit_server_momentum
    )


def fedadam(args: FcitArguments) -> Strategy:
    """Reddi et al. 2021, arXiv 2003.00295."""
    return PerSubspaceFedAdam(**_moments(args))


def fedyogi(args: FcitArguments) -> Strategy:
    """Reddi et al. 2021, arXiv 2003.00295."""
    return FedYogi(**_moments(args))


def fedadagrad(args: FcitArguments) -> Strategy:
    """Reddi et al. 2021, arXiv 2003.00295."""
    return FedAdagrad(**_adaptive(args))


def fedmedian(args: FcitArguments) -> Strategy:
    """Yin et al. 2018, arXiv 1803.01498."""
    return FedMedian(**ALL_NODES)


def trimmed_mean(args: FcitArguments) -> Strategy:
    """Yin et al. 2018, arXiv 1803.01498."""
    return FedTrimmedAvg(**ALL_NODES, beta=args.options(_KIND).fcit_trim_fraction)


def krum(args: FcitArguments) -> Strategy:
    """Blanchard et al. 2017, arXiv 1703.02757."""
    return Float64Krum(**ALL_NODES, num_malicious_nodes=args.options(_KIND).fcit_num_malicious)


def multi_krum(args: FcitArguments) -> Strategy:
    """Blanchard et al. 2017, arXiv 1703.02757."""
    return SelectBenignMultiKrum(**ALL_NODES, num_malicious_nodes=args.options(_KIND).fcit_num_malicious)


def _adaptive(args: FcitArguments) -> _Adaptive:
    options = args.options(_KIND)
    return {**ALL_NODES, "eta": options.fcit_server_learning_rate, "tau": options.fcit_server_tau}


def _moments(args: FcitArguments) -> _Moments:
    options = args.options(_KIND)
    return {**_adaptive(args), "beta_1": options.fcit_server_beta1, "beta_2": options.fcit_server_beta2}


def client_terms(config: ClientConfig, start: Tensors, extras: Mapping[str, Tensors]) -> list[GradientTerm]:
    """What a server rule has its clients add to the gradients of their training.

    Args:
        config: The client's configuration.
        start: The weights that it starts from.
        extras: The records that were sent beside them.
    """
    terms: list[GradientTerm] = []
    mu = config.of_rule.get(PROXIMAL_MU)
    if isinstance(mu, (int, float)):
        terms.append(Pull(start, float(mu)))
    if CORRECTION in extras:
        terms.append(Correction(extras[CORRECTION]))
    return terms


class RuleSet:
    """Instances of one server rule, made on demand: one per subspace (its id) and one for what is shared.

    A set lives for one round. What its rules remember for the next one (the momenta of FedAdam, say) goes
    through :meth:`to_arrays` into the server's state, so a run that goes on from a file is no other case.

    Args:
        args: The recipe's keys; ``fcit_server_rule`` names a registered rule (hook ``fcit_server_rules``).
        arrays: What the rules remember, from :meth:`to_arrays`.
    """

    SHARED = "shared"

    def __init__(self, args: FcitArguments, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self._args = args
        self._make = functools.partial(args.part(_KIND).load(), args)
        self._instances: dict[str, Strategy] = {}
        self._arrays = dict(arrays or {})

    @property
    def sends(self) -> tuple[str, ...]:
        """Names of the records that the rule sends to clients beside their weights (its attribute ``sends``)."""
        return getattr(self[self.SHARED], "sends", ())

    @property
    def wants(self) -> tuple[str, ...]:
        """Names of the records that the rule wants from clients beside their weights (its attribute ``wants``)."""
        return getattr(self[self.SHARED], "wants", ())

    @property
    def limits(self) -> Mapping[str, RecordLimits]:
        """What the records that the rule wants may hold (its attribute ``limits``)."""
        return getattr(self[self.SHARED], "limits", {})

    def __getitem__(self, owner: int | str) -> Strategy:
        owner = str(owner)
        if owner not in self._instances:
            self._instances[owner] = rule = self._make()
            start = f"{owner}/"
            _recall(rule, {key[len(start) :]: a for key, a in self._arrays.items() if key.startswith(start)})
        return self._instances[owner]

    def configure(self, owner: int | str, number: int, arrays: ArrayRecord, nodes: Sequence[int]) -> list[Message]:
        """The messages of one owner's rule to its clients.

        Args:
            owner: A subspace, or :attr:`SHARED`.
            number: Number of the round, from 1.
            arrays: The weights that they start from.
            nodes: The clients.
        """
        return list(self[owner].configure_train(number, arrays, ConfigRecord(), InProcessGrid(None, nodes)))

    def aggregate(self, owner: int | str, number: int, parts: Sequence[Message]) -> Tensors:
        """What one owner's rule makes of its clients' weights.

        Args:
            owner: A subspace, or :attr:`SHARED`; configured before.
            number: Number of the round, from 1.
            parts: Messages with one ArrayRecord and one weight each, at least one, in the order of the clients.

        Raises:
            FcitError: The rule refuses so few replies.
        """
        least = self._args.robust_from
        if len(parts) < least:
            _warn_once(
                f"`fcit_server_rule: {self._args.fcit_server_rule}` withstands bad clients from {least} replies on, and there "
                f"are subspaces with {len(parts)} in a round: those are not protected."
            )
        arrays, _ = self[owner].aggregate_train(number, parts)
        if arrays is None:
            raise FcitError(
                f"`fcit_server_rule: {self._args.fcit_server_rule}` makes nothing of {len(parts)} replies; "
                "take a rule that does, or ask more clients (`fcit_clients_per_round`)."
            )
        return to_state(arrays)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What the rules remember, by ``owner/key``, for safetensors; empty for rules without memory."""
        arrays = {key: a for key, a in self._arrays.items() if key.partition("/")[0] not in self._instances}
        for owner, rule in self._instances.items():
            arrays |= {f"{owner}/{key}": a for key, a in _memory(rule, self._make()).items()}
        return dict(sorted(arrays.items()))

    @classmethod
    def from_arrays(cls, args: FcitArguments, arrays: Mapping[str, np.ndarray]) -> "RuleSet":
        """Rebuild the rules from `to_arrays`."""
        return cls(args, arrays)


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning(text)


#: Set again by ``configure_train`` in every round: the weights sent out, which the state holds anyway.
_OF_THE_ROUND = "current_arrays"


def _memory(rule: Strategy, fresh: Strategy) -> dict[str, np.ndarray]:
    """What a strategy remembers: what its ``state()`` gives, otherwise the arrays and numbers on it that a fresh one has not.

    Returns:
        Arrays by ``name``, ``name/key`` or ``name[index]``.

    Raises:
        FcitError: It remembers something that this does not find.
    """
    if isinstance(rule, RemembersItself):
        return dict(rule.state())
    found: dict[str, Any] = {}
    for name, value in vars(rule).items():
        if name == _OF_THE_ROUND:
            continue
        before = vars(fresh).get(name)
        if isinstance(value, float):
            found |= {name: value} if value != before else {}
        else:
            found |= _arrays(name, value)
            if _differ(_others(value), _others(before)):
                raise FcitError(
                    f"The server rule {type(rule).__module__}.{type(rule).__name__} remembers `{name}`, which is a "
                    f"{type(value).__name__}, and only arrays, dictionaries and lists of arrays, and floats are kept; give the "
                    "rule `state()` and `load_state()`."
                )
    return {key: np.array(value) for key, value in found.items()}


def _arrays(name: str, value: Any) -> dict[str, np.ndarray]:
    """The arrays that an attribute is or has."""
    if isinstance(value, dict):
        return {f"{name}/{key}": item for key, item in value.items() if isinstance(item, np.ndarray)}
    if isinstance(value, list):
        return {f"{name}[{i}]": item for i, item in enumerate(value) if isinstance(item, np.ndarray)}
    return {name: value} if isinstance(value, np.ndarray) else {}


def _others(value: Any) -> Any:
    """What :func:`_arrays` leaves of an attribute; None for nothing."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if not isinstance(item, np.ndarray)} or None
    if isinstance(value, list):
        return [item for item in value if not isinstance(item, np.ndarray)] or None
    return None if isinstance(value, np.ndarray) else value


def _differ(value: Any, fresh: Any) -> bool:
    """Whether something was remembered; of objects that can only be compared with themselves it cannot be told."""
    if type(value) is not type(fresh):
        return value is not None
    if isinstance(value, torch.Tensor):
        return not torch.equal(value, fresh)
    return type(value).__eq__ is not object.__eq__ and value != fresh  # type: ignore[comparison-overlap]


def _recall(rule: Strategy, arrays: Mapping[str, np.ndarray]) -> None:
    """Put back what :func:`_memory` took off; list entries come in the order of their index."""
    if isinstance(rule, RemembersItself):
        if arrays:
            rule.load_state(arrays)
        return
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
    for name, by_key in dicts.items():
        setattr(rule, name, by_key)
