"""The output folder of an fcit run, told from other folders."""

import re
from pathlib import Path

from ..errors import FcitError
from .checkpoints import FOLDER as COMMITS
from .checkpoints import Checkpoints
from .names import MANIFEST, TOKENS, UPDATE_NAMES, UPDATES


def fcit_folder(adapters: list[str] | None) -> Path | None:
    """The output folder of an fcit run among the adapters, if there is one.

    Raises:
        FcitError: There are other adapters beside it, or the run has not finished.
    """
    adapters = adapters or []
    found = [Path(adapter) for adapter in adapters if is_fcit_folder(adapter) or _commit_in(adapter)]
    if found and len(adapters) > 1:
        raise FcitError(f"`adapter_name_or_path`: the FCIT folder {found[0]} cannot be combined with other adapters.")
    if found and not is_fcit_folder(found[0]):
        raise FcitError(
            f"`adapter_name_or_path`: the run in {found[0]} has not finished; let it go on, or name what it has "
            f"reached: {_commit_in(found[0])}."
        )
    return found[0] if found else None


def is_fcit_folder(path: str | Path) -> bool:
    """Whether a folder is the output of an fcit run, be it a damaged one."""
    return any((Path(path) / name).is_file() for name in (MANIFEST, TOKENS))


def would_lose(output_dir: str | Path, folder: str | Path) -> bool:
    """Whether what a run begins with is among what it replaces in its own output folder: its results, commits and updates."""
    output, needed = Path(output_dir).resolve(), Path(folder).resolve()
    if needed == output:
        return True
    parts = needed.relative_to(output).parts if needed.is_relative_to(output) else ()
    names = {COMMITS: r"round-\d+", UPDATES: UPDATE_NAMES}
    return len(parts) > 1 and parts[0] in names and re.fullmatch(names[parts[0]], parts[1]) is not None


def _commit_in(path: str | Path) -> Path | None:
    """The last commit of a run that has left no results yet."""
    return Checkpoints(Path(path)).newest_good().good
