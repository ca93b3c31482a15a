"""Without what the library datasets and LLaMA-Factory print of each dataset."""

import contextlib
import io
from collections.abc import Iterator

from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ..errors import is_debugging


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Within the block datasets are processed without a progress bar, and without LLaMA-Factory's printed example of tokens."""
    if is_debugging():
        yield
        return
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if shown:
            enable_progress_bars()
