"""Server rules: one Flower strategy per subspace, and one for the shared trainables.

The rules are Flower's own. Ours are only: SCAFFOLD (:mod:`.scaffold`), a step count of its own for each subspace's FedAdam,
Krum's distances in float64, and Multi-Krum's number of replies from how many there are.
"""

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
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
from ..files import SOUND_COPY
from .arrays import numbers_of
from .in_process_grid import InProcessGrid
from .messages import ARRAYS, METRICS, NUM_EXAMPLES, ClientConfig, record_of, to_state, zeros_record
from .rule_memory import RemembersItself as RemembersItself  # under this name it is public
from .rule_memory import check_memory, memory_of, recall
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
        if arrays:
            raise FcitError(f"`multi_krum` remembers nothing, and not {min(arrays)[:200]!r}.")


def _in_float64(replies: Iterable[Message]) -> list[Message]:
    for reply in replies:
        for name, record in reply.content.array_records.items():
            reply.content[name] = ArrayRecord({key: Array(numbers_of(a).astype(np.float64)) for key, a in record.items()})
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
            recall(rule, self._of(owner), owner)
        return self._instances[owner]

    def _of(self, owner: str) -> dict[str, np.ndarray]:
        """What one owner's rule remembers."""
        start = f"{owner}/"
        return {key[len(start) :]: a for key, a in self._arrays.items() if key.startswith(start)}

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
            arrays |= {f"{owner}/{key}": a for key, a in memory_of(rule, self._make()).items()}
        return dict(sorted(arrays.items()))

    def after_a_round(self, owner: int | str, weights: ArrayRecord) -> dict[str, np.ndarray]:
        """What an owner's rule remembers after a first round in which clients return the weights that they were sent."""
        (asked,) = self.configure(owner, 1, weights, [0])
        count = max(1, self._args.robust_from)  # no warning, for nobody is to be protected
        metrics, wanted = MetricRecord({NUM_EXAMPLES: 1}), (ARRAYS, *self.wants)
        # a record each, for strategies take arrays out of them
        content = [RecordDict({METRICS: metrics, **{name: record_of(weights) for name in wanted}}) for _ in range(count)]
        self.aggregate(owner, 1, [Message(part, reply_to=asked) for part in content])
        return memory_of(self[owner], self._make())

    def check(self, weights: Mapping[str, Tensors], file: str) -> None:
        """Refuse a memory that the rules cannot take up, before a round is begun with it.

        Args:
            weights: By owner those that its rule is of, of any values.
            file: Where the memory comes from.

        Raises:
            FcitError: The sentence names the file.
        """
        like: dict[tuple[str, ...], dict[str, np.ndarray]] = {}  # by the names of weights: subspaces are alike
        for owner in sorted({key.partition("/")[0] for key in self._arrays}):
            own = weights.get(owner)
            if not own:
                raise FcitError(f"{file} has memory of {owner!r}, which is no subspace of the state; {SOUND_COPY}.")
            names = tuple(sorted(own))
            if names not in like:
                like[names] = self._tried(owner, own)
            shapes = {name: tuple(own[name].shape) for name in names}
            check_memory(self._make(), self._of(owner), like[names], shapes, owner, file)

    def _tried(self, owner: str, weights: Tensors) -> dict[str, np.ndarray]:
        """What an owner's rule remembers after a round with weights of zeros; nothing where it cannot make one of them."""
        try:
            return RuleSet(self._args).after_a_round(owner, zeros_record(weights))
        except Exception:  # anybody's rule, to which zeros may mean nothing
            return {}

    @classmethod
    def from_arrays(cls, args: FcitArguments, arrays: Mapping[str, np.ndarray]) -> "RuleSet":
        """Rebuild the rules from `to_arrays`."""
        return cls(args, arrays)


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning(text)
