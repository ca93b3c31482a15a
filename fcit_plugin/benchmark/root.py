"""Where the FCIT benchmark is."""

import os
from pathlib import Path

HUB = "hub"
"""The value of ``fcit_data_dir`` and FCIT_DATA_DIR that means: fetch the instructions from the Hugging Face hub."""

_root_of_recipe: str | None = None


def use_data_root(root: str | None) -> None:
    """Set the root that a recipe names (``fcit_data_dir``), or None if it names none."""
    global _root_of_recipe
    _root_of_recipe = root


def data_root() -> Path:
    """Root of the FCIT benchmark: the recipe's, else FCIT_DATA_DIR's, else FCIT-mini (drawn on first use).

    Raises:
        ValueError: It is the hub's, and the hub cannot be reached.
    """
    root = _root_of_recipe or os.environ.get("FCIT_DATA_DIR")
    if root == HUB:
        from .hub import hub_root

        return hub_root()
    if root:
        return Path(root).expanduser().absolute()
    from ..mini.build import mini_root

    return mini_root()
