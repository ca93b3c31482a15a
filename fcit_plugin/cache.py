"""Where things made or fetched on first use are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$FCIT_CACHE``, else ``~/.cache/fcit_plugin``."""
    folder = Path(os.environ.get("FCIT_CACHE") or Path.home() / ".cache" / "fcit_plugin").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
