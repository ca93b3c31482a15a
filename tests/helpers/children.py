"""Forked children that share nothing with their parent that one of them could take to its grave."""

import os
import signal
import threading

import torch
from tqdm import tqdm


def fork(seconds: int = 400) -> int:
    """Fork this process as ``os.fork`` does, for a child that may be killed at any moment.

    Progress bars hold a lock that a process shares with all its forks: killed while it has it, a child would leave its
    parent and all later children waiting at their next bar.

    Args:
        seconds: What the child may take before it is ended by SIGALRM; 0 for as long as it likes.
    """
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        torch.set_num_threads(1)  # a fork has none of OpenMP's other threads, and would wait for them for ever
        tqdm.set_lock(threading.RLock())
    return child
