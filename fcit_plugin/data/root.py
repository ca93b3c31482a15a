"""Where the FCIT benchmark is."""

import os
from pathlib import Path

from ..fcit_benchmark.layout import INSTRUCTIONS
from ..files import of_user

HUB = "hub"
"""The value of ``fcit_data_dir`` and FCIT_DATA_DIR that means: fetch what is needed from the Hugging Face hub."""


def is_on_hub(given: str | None) -> bool:
    """Whether the benchmark is fetched from the hub, as the recipe's ``fcit_data_dir`` or FCIT_DATA_DIR says."""
    return (given or os.environ.get("FCIT_DATA_DIR")) == HUB


def benchmark_root(given: str | None = None, part: str = INSTRUCTIONS) -> Path:
    """Root of the FCIT benchmark: the given one, else FCIT_DATA_DIR's, else FCIT-mini (drawn on first use).

    Args:
        given: The recipe's ``fcit_data_dir``; None if it names none.
        part: Folder that is needed; if the root is the hub's and has it not yet, it is fetched.

    Raises:
        FcitError: It is the hub's, and the hub cannot be reached.
    """
    if is_on_hub(given):
        from ..fcit_benchmark.hub import hub_root

        return hub_root(part)
    if root := given or os.environ.get("FCIT_DATA_DIR"):
        return of_user(root).absolute()
    from ..samples.mini.build import mini_root

    return mini_root()
