"""LLaMA-Factory's callbacks, and the user's: who of a federation they are for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llamafactory.train.callbacks import LogCallback, ReporterCallback
from transformers import TrainerCallback

#: The class that LLaMA-Factory makes where ``use_swanlab`` is set; it stands within a function.
SWANLAB = "SwanLabCallbackExtension"


@dataclass(frozen=True)
class Callbacks:
    """What LLaMA-Factory hands a workflow.

    Attributes:
        of_run: Those that report: they hear what the integrations of ``report_to`` hear.
        of_clients: All others, the user's own among them: they see each client's training.
    """

    of_run: tuple[Any, ...] = ()
    of_clients: tuple[Any, ...] = ()

    @classmethod
    def of(cls, given: Sequence[Any] | None) -> "Callbacks":
        """Sort callbacks; a run writes LLaMA-Factory's log itself, so that one is asked about LLaMA Board's button alone."""
        run, clients = [], []
        for callback in given or ():
            if isinstance(callback, LogCallback):
                clients += [StopButton(callback)] if callback.webui_mode else []
            elif isinstance(callback, ReporterCallback) or type(callback).__name__ == SWANLAB:
                run.append(callback)
            else:
                clients.append(callback)
        return cls(tuple(run), tuple(clients))


class StopButton(TrainerCallback):
    """Ends the run where somebody has pressed LLaMA Board's button: its signal reaches LLaMA-Factory's log callback.

    Args:
        log: That callback.
    """

    def __init__(self, log: LogCallback) -> None:
        self.log = log

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """See :class:`transformers.TrainerCallback`; started again, the run resumes from what it has kept."""
        if self.log.aborted:
            sys.exit(0)
