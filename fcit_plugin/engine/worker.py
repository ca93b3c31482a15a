"""What a process beside the first does in a run that trains clients in parallel: the clients and records it is sent."""

import os
from collections.abc import Iterable
from typing import Any

from llamafactory.extras import logging

from ..errors import ECHOES
from ..federation.client import make_client_app
from ..federation.failures import naming_memory
from ..federation.messages import ClientConfig, config_of
from ..federation.noise import Noise
from ..federation.parallel_grid import Job, outcome_of
from .client_training import LocalTrainer
from .monitor import ClientCallback
from .pool import Pool
from .quiet import light_garbage_collection, quiet_transformers
from .run import EVALUATION_REMEDY
from .session import Session

logger = logging.get_logger(__name__)


def work(session: Session, pool: Pool) -> None:
    """Do what the first process sends until it says that the run is over.

    Args:
        session: This process's own, of the same recipe.
        pool: The processes.
    """
    os.environ.pop(ECHOES, None)  # from here on it does what no other does, and says what goes wrong
    worker = _Worker(session, pool)
    with quiet_transformers(), light_garbage_collection():
        while True:
            order, *what = pool.receive(0)
            if order == "end":
                return
            if order == "jobs":
                worker.do(*what)
            elif order == "noise":
                worker.take_noise(*what)
            else:
                worker.evaluate(*what)


class _Worker:
    def __init__(self, session: Session, pool: Pool) -> None:
        self._session = session
        self._pool = pool
        self._number = 0
        self._local: LocalTrainer = session.local(lambda config: ClientCallback(self, config))
        self._app = make_client_app(self._local, session.program.form.key)

    def take_noise(self, noise: Noise) -> None:
        """Draw the noise on tokens from where the first process does."""
        self._local.tokens.noise = noise

    def do(self, jobs: Iterable[tuple[int, Job]]) -> None:
        """Let clients answer, one after the other."""
        for self._number, job in jobs:
            if job.token is not None:
                self._local.know(config_of(job.request), job.token)
            outcome = outcome_of(self._app, job, self._session.args.fcit_client_timeout)
            self._pool.send(("outcome", self._number, *outcome), 0)

    def evaluate(self, labels: Any, *what: Any) -> None:
        """Answer a share of the test records."""
        with naming_memory("the evaluation", EVALUATION_REMEDY):
            self._session.evaluator(labels).evaluate(*what)

    def client_step(self, config: ClientConfig, loss: float | None) -> None:
        """See :class:`.monitor.Listener`."""
        self._pool.send(("step", self._number, loss), 0)

    def client_log(self, config: ClientConfig, logs: dict[str, Any]) -> None:
        """See :class:`.monitor.Listener`."""
        self._pool.send(("log", self._number, logs), 0)
