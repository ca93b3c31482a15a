"""A pass through the base weights alone, with whatever adapters are on the model, and beside requests in other threads."""

import contextlib
import threading
from collections.abc import Iterator

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

#: Name of the adapter that holds all subspaces inside the PEFT model (:mod:`.stacked`).
STACKED = "fcit_stacked"

_own = threading.local()


def is_alone() -> bool:
    """Whether this thread is within :func:`base_alone`: the stacked adapter then weighs nothing in it."""
    return getattr(_own, "alone", False)


@contextlib.contextmanager
def base_alone(module: nn.Module) -> Iterator[None]:
    """Within the block this thread computes with the base weights of a module, without dropout; then all is as before.

    The stacked adapter weighs 0 for this thread, so requests that other threads answer through it go on. Any other adapter,
    which a client trains, is switched off for all: nobody answers then. Neither what takes a gradient nor what is active is
    touched, as PEFT's own ``disable_adapter`` would.
    """
    training = [part for part in module.modules() if part.training]
    adapted = [
        part
        for part in module.modules()
        if isinstance(part, BaseTunerLayer) and not part.disable_adapters and {*part.active_adapters} - {STACKED}
    ]
    was_alone = is_alone()
    try:
        for part in training:
            part.training = False
        for layer in adapted:
            layer._disable_adapters = True
        _own.alone = True
        yield
    finally:
        _own.alone = was_alone
        for layer in adapted:
            layer._disable_adapters = False
        for part in training:
            part.training = True
