"""Evaluation that the processes of a run which trains clients in parallel share."""

from collections.abc import Sequence

from typing_extensions import override

from ..knowledge.activation import Router
from ..state.server_state import ServerState
from .evaluator import Evaluator
from .pool import Pool
from .scores import Scores


class PoolEvaluator(Evaluator):
    """The first process's has all others answer their shares, see :mod:`.worker`; each batch is that of a single process."""

    processes: Pool

    @override
    def evaluate(
        self, state: ServerState, names: Sequence[str], restricted: bool = True, router: Router | None = None
    ) -> Scores:
        """See :meth:`.evaluator.Evaluator.evaluate`."""
        if self.processes.is_main:
            self.processes.send_all(("evaluate", self.labels, state, list(names), restricted, router))
        return super().evaluate(state, names, restricted, router)
