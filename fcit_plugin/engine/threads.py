"""How many threads a process computes with on the CPU."""

import os

import torch

from ..recipe.world import World


def use_threads(given: int | None, world: World | None) -> None:
    """Let this process compute with a number of threads.

    Args:
        given: ``fcit_threads``; None leaves PyTorch's number, or takes the process's share of its machine's cores.
        world: The world that the process has left; its machine is shared with others of it.
    """
    if given is None and world is not None:
        given = max(1, len(os.sched_getaffinity(0)) // world.local_count)
    if given is not None and given != torch.get_num_threads():
        torch.set_num_threads(given)
