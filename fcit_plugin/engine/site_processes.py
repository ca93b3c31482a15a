"""A site of several processes (torchrun): the first one is the site to its server, and all of them share each optimizer step.

The others hear from the first what it has in hand, for hours nothing, and do the same work at the same time: train, and
answer test records. What needs no other process, such as tokens, keys and files, is the first one's alone.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from transformers.integrations import is_deepspeed_zero3_enabled

from ..adapters.lora import Tensors
from ..errors import FcitError, one_line
from ..federation.client import TrainingResult
from ..federation.failures import is_clients
from ..federation.messages import ClientConfig
from ..federation.noise import Noise
from ..knowledge.identity_tokens import ClientToken, SubspaceTokens, WithoutToken
from ..state.server_state import ServerState
from .client_training import LocalTrainer
from .processes import Processes
from .scores import Scores
from .session import Session

T = TypeVar("T")

#: How long the others wait for the first one: it is asked something when the server has something to ask.
_FOR_EVER = timedelta(days=1000)


class SiteProcesses:
    """What the processes of a site do together; one alone does it by itself.

    Every process has to make one, at the same time.

    Args:
        session: Of the site, in this process.

    Raises:
        FcitError: They share the weights, too.
    """

    def __init__(self, session: Session) -> None:
        if session.processes.count > 1 and is_deepspeed_zero3_enabled():
            raise FcitError(
                f"`deepspeed: {session.training_args.deepspeed}` has ZeRO-3, by which no process of a site could make tokens "
                "by itself; take ZeRO-2, or a site of one process (CUDA_VISIBLE_DEVICES=0)."
            )
        self._session, self._orders = session, Processes(_FOR_EVER)
        self._local: LocalTrainer | None = None

    def local(self, noise: Noise | None = None) -> LocalTrainer:
        """The site's training in this process.

        Args:
            noise: Where the noise on tokens comes from; asked for by the first process, which alone makes them.
        """
        if self._local is None:
            self._local = self._session.local(noise=noise)
        return self._local

    def train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        """Have all processes train; called by the first (:meth:`.client_training.LocalTrainer.train`)."""
        self._orders.from_main(("train", config, subspace, shared, dict(extras)))
        return self._train(config, subspace, shared, extras)

    def scores(self, state: ServerState, names: Sequence[str]) -> Scores:
        """Have all processes answer test records; called by the first.

        Args:
            state: What is evaluated.
            names: The datasets.
        """
        self._orders.from_main(("scores", state, list(names)))
        return self._scores(state, names)

    def follow(self) -> None:
        """Do what the first process does, until it says that it is over; called by the others."""
        work: dict[str, Callable[..., Any]] = {"train": self._train, "scores": self._scores}
        while (order := self._orders.from_main(None)) is not None:
            what, *given = order
            try:
                work[what](*given)
            except FcitError:  # of which the first one knows, and tells the server
                continue

    def end(self) -> None:
        """Let the others go; called by the first."""
        self._orders.from_main(None)

    def _train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        return self._together(lambda: self.local().train(config, subspace, shared, extras))

    def _scores(self, state: ServerState, names: Sequence[str]) -> Scores:
        session = self._session
        return self._together(lambda: session.evaluator(dict.fromkeys(names)).evaluate(state, names, restricted=False))

    def _together(self, work: Callable[[], T]) -> T:
        """What comes of work that all processes do.

        Raises:
            FcitError: It has failed in one of them, as a client's work may.
            SystemExit: It has failed otherwise in this one: the others may wait for it in the middle of a step, forever.
        """
        if self._orders.count == 1:
            return work()
        found, failure = None, None
        try:
            found = work()
        except Exception as error:
            if not is_clients(error):
                raise SystemExit(
                    f"fcit-plugin: this process of the site has failed, and the others with it: {one_line(error)}; when it is "
                    "mended start the site again, and it goes on from what it has kept."
                ) from error
            failure = one_line(error)
        agreed = self._session.processes.failure(failure)
        if agreed is not None:
            raise FcitError(agreed)
        assert found is not None
        return found


class TrainsTogether:
    """The site's local training, as its client app takes it (:class:`..federation.client.LocalTraining`).

    Args:
        local: Of the first process.
        processes: Those of the site.
    """

    def __init__(self, local: LocalTrainer, processes: SiteProcesses) -> None:
        self._local, self._processes = local, processes

    def token(self, config: ClientConfig) -> ClientToken | WithoutToken:
        """See :class:`..federation.client.LocalTraining`."""
        return self._local.token(config)

    def choose(self, config: ClientConfig, tokens: SubspaceTokens) -> int | None:
        """See :class:`..federation.client.LocalTraining`."""
        return self._local.choose(config, tokens)

    def train(self, config: ClientConfig, subspace: Tensors, shared: Tensors, extras: Mapping[str, Tensors]) -> TrainingResult:
        """See :class:`..federation.client.LocalTraining`."""
        return self._processes.train(config, subspace, shared, extras)
