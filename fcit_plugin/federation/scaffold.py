"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378), at the server and at its clients.

Each client i has a control c_i, an estimate of its own gradient, the server their mean c. A client trains with

    g + (c - c_i)                                   algorithm 1, line 10

and afterwards its control is the mean of its own gradients g over the steps. For plain gradient descent that is the
paper's second option, c_i - c + (x - y_i) / (K eta); unlike that formula it also holds for AdamW and any schedule. With
the clients S of a round, of N,

    c <- c + 1/N sum_{i in S} (c_i' - c_i)          algorithm 1, line 17

Clients keep nothing: the server sends c - c_i, and gets the mean gradient. It learns no more by that, for c_i is the sum of
the differences that the paper has clients send.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from typing_extensions import override

from ..adapters.lora import Tensors
from ..continual.record_limits import RecordLimits
from ..continual.terms import GradientTerm, Weights
from .arrays import numbers_of
from .messages import arrays_of

#: Records: what the server sends, c - c_i, and what a client answers, its mean gradient.
CORRECTION, GRADIENT = "correction", "mean_gradient"


class Scaffold(FedAvg):
    """FedAvg whose clients correct their gradients.

    Args:
        num_clients: N.
    """

    sends, wants = (CORRECTION,), (GRADIENT,)
    limits: ClassVar[Mapping[str, RecordLimits]] = {GRADIENT: RecordLimits(power=1)}

    def __init__(self, num_clients: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_clients = num_clients
        self.control: dict[str, np.ndarray] = {}
        self.controls: dict[str, np.ndarray] = {}  # by client/key

    @override
    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        messages = []
        for message in super().configure_train(server_round, arrays, config, grid):
            client = message.metadata.dst_node_id
            correction = {key: self._control(key, array) - self._own(client, key, array) for key, array in arrays.items()}
            content = RecordDict({**message.content, CORRECTION: ArrayRecord({k: Array(a) for k, a in correction.items()})})
            messages.append(Message(content, dst_node_id=client, message_type=message.metadata.message_type))
        return messages

    @override
    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = sorted(replies, key=lambda reply: reply.metadata.src_node_id)
        changes: dict[str, np.ndarray] = {}
        for reply in replies:
            client = reply.metadata.src_node_id
            gradient = arrays_of(reply, GRADIENT)
            del reply.content[GRADIENT]
            for key, array in gradient.items():
                new = numbers_of(array)
                changes[key] = changes.get(key, 0.0) + (new.astype(np.float64) - self._own(client, key, array))
                self.controls[f"{client}/{key}"] = new
        for key, change in changes.items():
            self.control[key] = (self._control(key, change) + change / self.num_clients).astype(np.float32)
        return super().aggregate_train(server_round, replies)

    def _control(self, key: str, like: Array | np.ndarray) -> np.ndarray:
        """The server's c."""
        return self.control.get(key, np.zeros(tuple(like.shape), np.float32))

    def _own(self, client: int, key: str, like: Array | np.ndarray) -> np.ndarray:
        """c_i."""
        return self.controls.get(f"{client}/{key}", np.zeros(tuple(like.shape), np.float32))


class Correction(GradientTerm):
    """The client's side: adds c - c_i to each gradient, and takes the mean of the gradients before that.

    Args:
        correction: c - c_i.
    """

    def __init__(self, correction: Tensors) -> None:
        self.correction = correction
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    @override
    def add(self, weights: Weights) -> None:
        self._steps += 1
        for key, weight in weights.items():
            if weight.grad is None:
                continue
            gradient = weight.grad.detach()
            self._sums[key] = self._sums.get(key, 0) + gradient.float()
            weight.grad.add_(self.correction[key].to(weight))

    @override
    def measured(self) -> Mapping[str, Tensors]:
        mean = {key: torch.zeros_like(value) for key, value in self.correction.items()}
        return {GRADIENT: mean | {key: (total / self._steps).cpu() for key, total in self._sums.items()}}
