"""What a run shows while it goes on: a progress line, ``trainer_log.jsonl``, and scalars for ``report_to``."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from llamafactory.extras import logging
from llamafactory.extras.constants import TRAINER_LOG
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import get_reporting_integration_callbacks

from ..federation.messages import ClientConfig
from ..files import append_lines, write_bytes

logger = logging.get_logger(__name__)


#: Lines of the longest log: each commit holds all of it, and no longer file would be read again.
MOST_LINES = 250_000
#: Seconds that are shown at most as what remains: a hundred years.
_LONGEST = 3e9


class Monitor:
    """Progress of a whole run, counted in optimizer steps over all clients.

    Args:
        training_args: LLaMA-Factory's training arguments of the run.
        total_steps: Optimizer steps of all clients in all rounds and stages.
        step: Those done before this process.
        seconds: The time that they took.
        log: What was logged of them; None begins a new log.
        callbacks: They hear what the integrations of ``report_to`` hear.
    """

    def __init__(
        self,
        training_args,
        total_steps: int,
        step: int = 0,
        seconds: float = 0.0,
        log: Sequence[dict[str, Any]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.args = training_args
        self.total_steps = total_steps
        self.step = step
        self.log: list[dict[str, Any]] = []
        self._start = time.monotonic() - seconds  # a clock that is set makes no time of the run
        self._main = training_args.process_index == 0
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            desc="Federated training",
            unit="step",
            dynamic_ncols=True,
            disable=True if not self._main or training_args.disable_tqdm else None,  # None: where it is no terminal
        )
        if self._main:  # also an empty one: a run that goes on leaves the same files as one that does not stop
            self.log = list(log or ())
            self.write_log(Path(training_args.output_dir))
        self._reporters = [cls() for cls in get_reporting_integration_callbacks(training_args.report_to)]
        self._reporters += callbacks
        self._open: dict[int, ClientNotes] = {}
        self._ahead = 0
        self._lock = threading.Lock()
        self._tell("on_train_begin")

    def client_callback(self, config: ClientConfig) -> TrainerCallback:
        """The callback that reports one client's local training."""
        return ClientCallback(self._open.get(config.client, self), config)

    def client_step(self, config: ClientConfig, loss: float | None) -> None:
        """One optimizer step of a client is done."""
        self.step += 1
        self._show(config, loss)

    def client_log(self, config: ClientConfig, logs: dict[str, Any]) -> None:
        """A client's trainer logged a loss: the same line that LLaMA-Factory writes, with stage, round and client."""
        if self._main:
            self._append([self._entry(config, logs, self.step)])

    def open_notes(self, config: ClientConfig, watch: Callable[[], None]) -> "ClientNotes":
        """See :class:`fcit_plugin.federation.parallel_grid.Notebook`."""
        self._open[config.client] = ClientNotes(self, watch)
        return self._open[config.client]

    def site_trained(self, config: ClientConfig, steps: int, loss: float | None) -> None:
        """A site has done all steps of a training, in a place where nobody looks on.

        Args:
            config: What it had to do.
            steps: How many they are.
            loss: Their mean loss; None where the site does not tell it, and there is no line in the log.
        """
        self.step += steps
        self._show(config, loss, steps)
        if self._main and loss is not None:
            self._append([self._entry(config, {"loss": loss}, self.step)])

    def note_step(self, config: ClientConfig, loss: float | None) -> None:
        """One optimizer step of a client is done that the run's log does not have yet."""
        with self._lock:  # other processes' steps come in a thread of their own
            self._ahead += 1
            self._show(config, loss)

    def note_log(self, config: ClientConfig, logs: dict[str, Any], step: int) -> dict[str, Any]:
        """A line of the log for a client's own step."""
        return self._entry(config, logs, self.step + self._ahead) | {"current_steps": step}

    def _show(self, config: ClientConfig, loss: float | None, steps: int = 1) -> None:
        shown: dict[str, Any] = {"client": config.client, "subspace": config.subspace}
        if loss is not None:
            shown["loss"] = f"{loss:.4f}"
        self._bar.set_description(f"Stage {config.stage} round {config.round}", refresh=False)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(steps)

    def _entry(self, config: ClientConfig, logs: dict[str, Any], step: int) -> dict[str, Any]:
        elapsed = time.monotonic() - self._start
        remaining = min(elapsed / max(step, 1) * (self.total_steps - step), _LONGEST)
        return {
            "current_steps": step,
            "total_steps": self.total_steps,
            "loss": logs["loss"],
            "lr": logs.get("learning_rate"),
            "epoch": logs.get("epoch"),
            "percentage": self._percentage(step),
            "elapsed_time": str(timedelta(seconds=int(elapsed))),
            "remaining_time": str(timedelta(seconds=int(remaining))),
            "stage": config.stage,
            "round": config.round,
            "client": config.client,
            "subspace": config.subspace,
        }

    def _percentage(self, step: int) -> float:
        return round(step / max(self.total_steps, 1) * 100, 2)

    def mark(self) -> tuple[int, int]:
        """See :class:`fcit_plugin.federation.reply_cache.Journal`."""
        return self.step, len(self.log)

    def since(self, mark: tuple[int, int]) -> dict[str, Any]:
        """See :class:`fcit_plugin.federation.reply_cache.Journal`; steps are counted from the mark on."""
        lines = [line | {"current_steps": line["current_steps"] - mark[0]} for line in self.log[mark[1] :]]
        return {"steps": self.step - mark[0], "log": lines}

    def replay(self, entries: dict[str, Any]) -> None:
        """See :class:`fcit_plugin.federation.reply_cache.Journal`; the lines go on from the steps that are done."""
        steps = [self.step + line["current_steps"] for line in entries["log"]]
        lines = [
            line | {"current_steps": step, "total_steps": self.total_steps, "percentage": self._percentage(step)}
            for line, step in zip(entries["log"], steps, strict=True)
        ]
        with self._lock:
            shown = min(self._ahead, entries["steps"])
            self._ahead -= shown
            self.step += entries["steps"]
            self._bar.update(entries["steps"] - shown)
        if self._main and lines:
            self._append(lines)

    def write_log(self, folder: Path) -> None:
        """Write the whole log into a folder; one that is too long is thinned before.

        A commit may do that and nothing else: so a run that goes on from it, which reads its log, has the same lines as one
        that did not stop, and no :meth:`mark` is in use.
        """
        long = len(self.log) > MOST_LINES
        if long:
            self.log = _thinned(self.log, MOST_LINES // 2)
        own = Path(self.args.output_dir)
        for place in dict.fromkeys([folder, own] if long else [folder]):
            write_bytes(place / TRAINER_LOG, _lines(self.log).encode())

    def _append(self, entries: list[dict[str, Any]]) -> None:
        self.log += entries
        append_lines(Path(self.args.output_dir) / TRAINER_LOG, _lines(entries))

    def scalars(self, values: dict[str, float]) -> None:
        """Send scalars to the integrations of ``report_to``, at the current step."""
        self._tell("on_log", logs=dict(values))

    def close(self) -> None:
        """The run is over."""
        self._bar.close()
        self._tell("on_train_end")

    def write(self, line: str) -> None:
        """Log a line in LLaMA-Factory's style without breaking the progress bar."""
        with tqdm.external_write_mode():
            logger.info_rank0(line)

    def warn(self, line: str) -> None:
        """The same for a warning."""
        with tqdm.external_write_mode():
            logger.warning_rank0(line)

    def _tell(self, event: str, **kwargs: Any) -> None:
        state = TrainerState(
            global_step=self.step,
            max_steps=self.total_steps,
            is_world_process_zero=self._main,
            is_local_process_zero=self._main,
        )
        for reporter in self._reporters:
            getattr(reporter, event)(self.args, state, TrainerControl(), **kwargs)


def _thinned(log: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many lines of a log, the last of each piece of equally many steps: so no part of a long run fades away."""
    first, last = log[0]["current_steps"], log[-1]["current_steps"]
    return [*{(line["current_steps"] - first) * most // (last - first + 1): line for line in log}.values()]


def _lines(entries: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


class Listener(Protocol):
    """Hears of clients' steps and of what their trainers log."""

    def client_step(self, config: ClientConfig, loss: float | None) -> None:
        """One optimizer step is done."""
        ...

    def client_log(self, config: ClientConfig, logs: dict[str, Any]) -> None:
        """A loss is logged."""
        ...


class ClientNotes:
    """The log of one client's training while others train beside it: see :class:`..federation.parallel_grid.Notes`.

    Args:
        monitor: The run's.
        watch: Called after each step, and may raise.
    """

    def __init__(self, monitor: Monitor, watch: Callable[[], None]) -> None:
        self._monitor = monitor
        self._watch = watch
        self._steps = 0
        self._lines: list[dict[str, Any]] = []

    def client_step(self, config: ClientConfig, loss: float | None) -> None:
        """One optimizer step is done."""
        self._steps += 1
        self._monitor.note_step(config, loss)
        self._watch()

    def client_log(self, config: ClientConfig, logs: dict[str, Any]) -> None:
        """A loss is logged."""
        self._lines.append(self._monitor.note_log(config, logs, self._steps))

    def entries(self) -> dict[str, Any]:
        """What :meth:`Monitor.replay` takes up."""
        return {"steps": self._steps, "log": self._lines}


class ClientCallback(TrainerCallback):
    """Tells a listener of one client's training.

    Args:
        listener: Whom.
        config: The client's work.
    """

    def __init__(self, listener: Listener, config: ClientConfig) -> None:
        self.listener = listener
        self.config = config
        self.loss: float | None = None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """See :class:`transformers.TrainerCallback`."""
        self.listener.client_step(self.config, self.loss)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """See :class:`transformers.TrainerCallback`."""
        if logs and "loss" in logs:
            self.loss = logs["loss"]
            self.listener.client_log(self.config, logs)
