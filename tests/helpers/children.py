"""Forked children, which may be killed at any moment without harm to the others, and have a limit in time."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import torch
from tqdm import tqdm

#: Seconds that a child has where nothing else is said.
LIMIT = 400


def fork(seconds: int = LIMIT) -> int:
    """Fork this process as ``os.fork`` does, and give the child a lock of its own for its progress bars.

    tqdm's lock is a semaphore that a process has in common with all its forks. A child that is killed while it holds it would
    leave its parent, and all later children, waiting at their next bar.

    Args:
        seconds: What the child may take before SIGALRM ends it; 0 for no limit.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        torch.set_num_threads(1)  # a fork has none of OpenMP's other threads, and would wait for them forever
        lock = threading.RLock()
        tqdm.set_lock(lock)
        for bar in _subclasses(tqdm):
            if "_lock" in vars(bar):  # it was made before its parent class had one
                bar.set_lock(lock)
    return child


def ended(work: Callable[[], object], seconds: int = LIMIT) -> int:
    """How a child ends that does this: 0, 1 if it raised, or minus the number of the signal that ended it.

    Args:
        work: What the child does.
        seconds: See :func:`fork`.
    """
    child = fork(seconds)
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _subclasses(kind: type) -> Iterator[type]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
