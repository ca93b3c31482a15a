"""What a test process need not do in full, for no test looks at it; it took more than a third of a small run."""

import contextlib
import gc
import os
from collections.abc import Iterator

from matplotlib.figure import Figure


def collect_light() -> None:
    """Let collections look only at what comes from now on, not at the million objects of libraries and collected tests.

    A run freezes too, and thaws in the end (``light_garbage_collection``): what was frozen before must stay so.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.unfreeze = lambda: None


def flush_light() -> None:
    """Do not wait for the disk: that matters only to who reads after the machine went down."""
    os.fsync = lambda _: None


@contextlib.contextmanager
def coarse_pictures() -> Iterator[None]:
    """Within the block pictures show all that they show, but in few pixels and laid out simply, not drawn twice for that."""
    savefig = Figure.savefig

    def coarse(figure: Figure, path, *, format: str, metadata: dict) -> None:
        figure.set_layout_engine("none")
        figure.dpi = 20
        figure.canvas.print_png(path, metadata=metadata)

    Figure.savefig = coarse
    try:
        yield
    finally:
        Figure.savefig = savefig
