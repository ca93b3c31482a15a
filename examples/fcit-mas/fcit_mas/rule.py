"""A server rule: the mean of the clients' updates, none of them longer than most are."""

from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from typing_extensions import override

from fcit_plugin.arguments import FcitArguments
from fcit_plugin.federation.rules import ALL_NODES

#: eta_C of the paper: by how much a bound that every update keeps, or none does, moves in a round.
RATE = 0.2


class ClippedMean(FedAvg):
    """FedAvg over updates that are cut to a length C, which follows a quantile of their lengths.

    With the updates d_c = w_c - w of a round, and the share b of them that is no longer than C,

        w <- w + mean of d_c min(1, C / ||d_c||),    then    C <- C exp(-eta_C (b - q))

    (Andrew et al. 2021, arXiv 1905.03871, algorithm 1, without its noise). C begins as the quantile q of the first round.

    Args:
        quantile: q.
    """

    def __init__(self, quantile: float) -> None:
        super().__init__(**ALL_NODES)
        self.quantile = quantile
        self.bound: float | None = None

    def state(self) -> Mapping[str, np.ndarray]:
        """What is to be known in the next round, for which another instance is made."""
        return {} if self.bound is None else {"bound": np.array(self.bound)}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take up what the last round's instance gave as its state."""
        self.bound = float(arrays["bound"])

    @override
    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        self.sent = {key: array.numpy().astype(np.float64) for key, array in arrays.items()}
        return super().configure_train(server_round, arrays, config, grid)

    @override
    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        updates = [self._update(reply) for reply in replies]
        lengths = [np.sqrt(sum(np.square(part).sum() for part in update.values())) for update in updates]
        bound = float(np.quantile(lengths, self.quantile)) if self.bound is None else self.bound
        for reply, update, length in zip(replies, updates, lengths, strict=True):
            share = min(1.0, bound / length) if length else 1.0
            clipped = {key: Array(start + share * update[key]) for key, start in self.sent.items()}
            (name,) = reply.content.array_records
            reply.content[name] = ArrayRecord(clipped)
        self.bound = bound * float(np.exp(-RATE * (np.mean(np.array(lengths) <= bound) - self.quantile)))
        return super().aggregate_train(server_round, replies)

    def _update(self, reply: Message) -> dict[str, np.ndarray]:
        (record,) = reply.content.array_records.values()
        return {key: array.numpy() - self.sent[key] for key, array in record.items()}


def clipped_mean(args: FcitArguments) -> ClippedMean:
    """The rule of a recipe."""
    return ClippedMean(args.options("server_rules").fcit_clip_quantile)
