"""Sealed folders: there whole or not at all, with a SHA-256 sum of every file in them.

No torch and no trainer here, so that looking at a run is quick.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import FcitError
from ..files import LARGEST_JSON, inside, opened, read_as, read_bytes
from ..folders import DISCARDED, PARTIAL, hidden, whole_folder
from .forms import Sums

CHECKSUMS = "checksums.json"


def seal(folder: Path, write: Callable[[Path], None], *, replace: bool = True) -> None:
    """Write a folder so that it is there whole or not at all, also when the machine goes down in between.

    The files are written into a sibling of a hidden name; then their sums, then all of it is flushed to the disk, and
    one rename gives the folder its name. A folder that stands there already is moved aside right before, or not replaced.

    Args:
        folder: The folder to make.
        write: Called with the folder to write the files into.
        replace: Put it in the place of one that holds something.

    Raises:
        FcitError: The folder is there and not empty, and not to be replaced.
        OSError: It cannot be written (disk full, no permission); nothing of it is left, what was there before is.
    """
    try:
        with whole_folder(folder, replace=replace, flush=True) as partial:
            write(partial)
            (partial / CHECKSUMS).write_bytes(_render({name: _sum(partial / name) for name in _files(partial)}))
    except OSError as error:
        raise OSError(
            f"{folder} could not be written ({error.strerror or error}); make room or fix that and start again, what was "
            "written before is still there."
        ) from error


def discard(folder: Path) -> None:
    """Take a folder away; it loses its name first, so that no half of it is ever met under it."""
    if folder.exists():
        aside = hidden(folder, DISCARDED)
        folder.rename(aside)
        shutil.rmtree(aside)


def clean(parent: Path) -> None:
    """Take away what writers that were killed have left in a folder."""
    for path in [path for end in (PARTIAL, DISCARDED) for path in parent.glob(f".*{end}")]:
        shutil.rmtree(path)


def problems(folder: Path) -> list[str]:
    """What is wrong with a sealed folder: one entry for each file that is missing or differs from its sum.

    Returns:
        Entries that begin with the file's path; empty if every sum is right.
    """
    try:
        path = inside(folder, CHECKSUMS)
        sums = sums_of(folder)
        whole = read_bytes(path, most=LARGEST_JSON) == _render(sums)
    except FcitError as error:
        return [str(error).partition(";")[0]]
    return differing(folder, sums) if whole else [f"{path} is corrupt: it differs from its own sum"]


def sums_of(folder: Path) -> dict[str, str]:
    """The sums of a sealed folder without :func:`problems`, by path."""
    return read_as(Sums, inside(folder, CHECKSUMS))["files"]


def differing(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """The files of a folder that differ from their sums, as in :func:`problems`."""
    found = []
    for name, expected in sums.items():
        try:
            if _sum(inside(folder, name)) != expected:
                found.append(f"{folder / name} is corrupt: it differs from its SHA-256 sum")
        except FcitError as error:
            found.append(str(error).partition(";")[0])
    return found


def _files(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def _sum(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def _render(sums: dict[str, str]) -> bytes:
    """The bytes of the sums' file, which holds a sum of its own: it is compared byte by byte."""
    own = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    return (json.dumps({"sha256": own, "files": sums}, indent=2, ensure_ascii=False) + "\n").encode()
