"""Several processes of one run (torchrun) take a client's failure alike.

A client that fails in one process only must not leave the others waiting for it in a collective operation: after
every client the processes tell each other how it went, over a group of their own. If one of them does not come,
because it still waits for the one that failed, that one gives up after a while, and torchrun ends them all.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState

T = TypeVar("T")

#: How long one process waits for the others after a client; they do the same work, so they come at about the same time.
PATIENCE = timedelta(minutes=10)


class Processes:
    """What the processes of a run agree on; with one process, what that one says.

    Every process has to make one, and to call its methods, in the same order.

    Args:
        patience: How long to wait for the others.
    """

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self._group: dist.ProcessGroup | None = None
        if dist.is_initialized() and dist.get_world_size() > 1:
            group = dist.new_group(backend="gloo", timeout=patience)
            assert not isinstance(group, int)  # the number that stands for a group without this process
            self._group = group

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return 0 if self._group is None else dist.get_rank(self._group)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self._group is None else dist.get_world_size(self._group)

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for the run."""
        return self.rank == 0

    def failure(self, own: str | None) -> str | None:
        """The failure of the first process that has one.

        Args:
            own: How a client failed in this process, None if it went well.
        """
        if self._group is None:
            return own
        heard: list[str | None] = [None] * self.count
        dist.all_gather_object(heard, own, group=self._group)
        return next((failure for failure in heard if failure is not None), None)

    def from_main(self, value: T) -> T:
        """The main process's value, in all of them; what the others pass is not looked at."""
        if self._group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def compute_on_main(self, compute: Callable[[], T]) -> T:
        """What the main process alone computes, in all of them.

        The others wait as long as for a gradient (LLaMA-Factory's ``ddp_timeout``): a metric may take its time, and start a
        Java machine of 2 GB.
        """
        box = [compute() if self.is_main else None]
        if self._group is not None:
            dist.broadcast_object_list(box, src=0)
        return cast(T, box[0])

    def gather(self, own: T) -> list[T]:
        """What each process has, by rank; they wait for each other as in :meth:`compute_on_main`."""
        found: list[Any] = [own] * self.count
        if self._group is not None:
            dist.all_gather_object(found, own)
        return found

    def any(self, own: bool) -> bool:
        """Whether it is true in any process."""
        if self._group is None:
            return own
        flag = torch.tensor(int(own))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag)


class Deadline(TrainerCallback):
    """Ends a client's training once it takes too long, in all processes after the same step.

    Args:
        timeout: Seconds.
        processes: Those that end together.
        message: What the error says.
        clock: Tells the time in seconds.
    """

    def __init__(self, timeout: float, processes: Processes, message: str, clock) -> None:
        self._end = clock() + timeout
        self._processes = processes
        self._message = message
        self._clock = clock

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """After each optimizer step.

        Raises:
            TimeoutError: It takes too long.
        """
        if self._processes.any(self._clock() > self._end):
            raise TimeoutError(self._message)
