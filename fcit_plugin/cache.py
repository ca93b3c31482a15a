"""Where things made or fetched on first use are kept."""

import os
from pathlib import Path

from .files import at_home


def cache_folder() -> Path:
    """``$FCIT_CACHE``, else ``~/.cache/fcit_plugin``.

    Raises:
        OSError: It cannot be made, as where the user has no home.
    """
    folder = at_home(os.environ.get("FCIT_CACHE") or "~/.cache/fcit_plugin", "FCIT_CACHE")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
