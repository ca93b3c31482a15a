"""Blocks in which trainings that follow each other neither print nor clean up as each would alone."""

import contextlib
import gc
from collections.abc import Iterator

import transformers


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers only warns: its info lines would come once per client."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_warning()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


@contextlib.contextmanager
def light_garbage_collection() -> Iterator[None]:
    """Within the block a collection looks only at what came since.

    Each client's trainer asks for full collections, and walking over the million objects of the imported libraries
    takes longer than a small client's training.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
