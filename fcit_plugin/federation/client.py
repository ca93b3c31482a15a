"""The client's side: a Flower ClientApp around local training."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from ..adapters.lora import Tensors, select_factors
from ..knowledge.identity_tokens import ClientToken
from ..knowledge.prototypes import Prototypes
from .compression import compress_update
from .messages import ARRAYS, SHARED, config_of, extras_of, to_state, token_reply, trained_factors, update_reply


class TrainingResult(NamedTuple):
    """What local training gives.

    Attributes:
        subspace: The subspace, trained.
        shared: The shared trainables, trained.
        loss: The mean training loss.
        extras: What else was asked for (:data:`.messages.WANTS`), by the name of its record.
    """

    subspace: Tensors
    shared: Tensors
    loss: float
    extras: Mapping[str, Tensors] = {}


class OwnToken(NamedTuple):
    """A client's identity token.

    Attributes:
        mean: m_c [D].
        count: q_c.
        num_examples: n_c.
        kinds: Its kinds of instructions, where the method wants them.
    """

    mean: np.ndarray
    count: int
    num_examples: int
    kinds: Prototypes | None = None


class LocalTraining(Protocol):
    """What a client does with its private data. Implemented on LLaMA-Factory in ``integration.local``."""

    def token(self, config: ConfigRecord) -> "tuple[np.ndarray, int, int] | OwnToken":
        """The client's identity token."""
        ...

    def train(self, config: ConfigRecord, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        """Train from the given weights, with what the method and the server rule sent beside them.

        Of the subspace only the factors that the configuration names (:func:`.messages.trained_factors`) are trained.
        """
        ...


def work_config(run: str, stage: int, round: int, client: int, task: int) -> ConfigRecord:
    """What a client has to know: which run it is, where that is, and which task to work on."""
    return ConfigRecord({"run": run, "stage": stage, "round": round, "client": client, "task": task})


def make_client_app(local: LocalTraining) -> ClientApp:
    """The app that every client runs: ``query`` answers with the identity token, ``train`` with an update."""
    app = ClientApp()

    def token_of(config: ConfigRecord) -> ClientToken:
        return ClientToken(config["client"], *OwnToken(*local.token(config)))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return token_reply(message, token_of(config_of(message)))

    @app.train(mods=[compress_update])
    def train(message: Message, context: Context) -> Message:
        config = config_of(message)
        shared = to_state(message.content[SHARED]) if SHARED in message.content else {}
        trained = local.train(config, to_state(message.content[ARRAYS]), shared, extras_of(message))
        subspace = select_factors(trained.subspace, trained_factors(config))
        return update_reply(message, subspace, trained.shared, token_of(config), trained.loss, trained.extras)

    return app
