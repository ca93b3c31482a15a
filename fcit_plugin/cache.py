"""Where things made or fetched on first use are kept."""

import os
from pathlib import Path

from .files import of_user


def cache_folder() -> Path:
    """``$FCIT_CACHE``, else ``~/.cache/fcit_plugin``."""
    folder = of_user(os.environ.get("FCIT_CACHE") or "~/.cache/fcit_plugin")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
