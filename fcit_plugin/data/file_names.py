"""Names of data files that are read as something else than a name."""

import glob
import os
from pathlib import Path

from ..errors import FcitError


def refuse_pattern(path: Path, place: str) -> None:
    """Refuse a file by whose name the package ``datasets``, and so LLaMA-Factory, would read others, or none.

    Args:
        path: The file, or a folder of files.
        place: What to call it.

    Raises:
        FcitError: The sentence says which signs of the name, or of a folder that it lies in, are meant.
    """
    name = os.path.abspath(path)
    if "::" in name:
        raise FcitError(f"{place} has `::` in its name or its folder's, where the package datasets splits it; rename that.")
    found = glob.glob(name) if glob.has_magic(name) else [name]
    if found != [name]:
        signs = " ".join(sorted({*name} & {*"*?["}))
        others = f"{found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "") if found else "no file"
        raise FcitError(
            f"{place} has {signs} in its name or its folder's, which the package datasets takes for a pattern, of {others}; "
            "rename that."
        )
