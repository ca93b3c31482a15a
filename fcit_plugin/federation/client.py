"""The client's side: a Flower ClientApp around local training."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from ..adapters.lora import Tensors, select_factors
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from .compression import compress_update
from .messages import (
    MEAN,
    SHARED,
    TOKENS,
    ClientConfig,
    arrays_of,
    config_of,
    extras_of,
    to_state,
    token_reply,
    tokens_in,
    update_reply,
)


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


class LocalTraining(Protocol):
    """What a client does with its private data. Implemented on LLaMA-Factory in ``engine.client_training``."""

    def token(self, config: ClientConfig) -> ClientToken | WithoutToken:
        """The client's identity token, with its kinds of instructions where the method wants them; none of too few records."""
        ...

    def choose(self, config: ClientConfig, tokens: SubspaceTokens) -> int | None:
        """The subspace that a client without a token knows to be its own, from the state's tokens; None for none."""
        ...

    def train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        """Train from the given weights, with what the method and the server rule sent beside them.

        Of the subspace only the factors ``config.trains`` are trained.
        """
        ...


def make_client_app(local: LocalTraining, key: str = MEAN) -> ClientApp:
    """The app that every client runs: ``query`` answers with the identity token, ``train`` with an update.

    Args:
        local: What a client does with its data.
        key: Name of the tokens' form in messages (:attr:`..knowledge.token_forms.TokenForm.key`).
    """
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        config = config_of(message)
        token = local.token(config)
        if isinstance(token, WithoutToken) and TOKENS in message.content:
            token = replace(token, subspace=local.choose(config, tokens_in(message)))
        return token_reply(message, token, key)

    @app.train(mods=[compress_update])
    def train(message: Message, context: Context) -> Message:
        config = config_of(message)
        shared = to_state(arrays_of(message, SHARED)) if SHARED in message.content else {}
        trained = local.train(config, to_state(arrays_of(message)), shared, extras_of(message))
        subspace = select_factors(trained.subspace, config.trains)
        return update_reply(message, subspace, trained.shared, local.token(config), trained.loss, trained.extras, key)

    return app
