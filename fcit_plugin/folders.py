"""Folders that are written whole or not at all. No torch."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import FcitError
from .files import to_disk

#: How the name of a folder ends that is being written, or taken away; it begins with a dot.
PARTIAL, DISCARDED = ".partial", ".discarded"


@contextlib.contextmanager
def whole_folder(folder: Path, *, replace: bool = False, flush: bool = False) -> Iterator[Path]:
    """Within the block a folder is filled under another name; it takes its own when the block has ended well.

    Args:
        folder: The folder to make, new or empty. An empty one stays the same one, for somebody may stand in it.
        replace: Put it in the place of one that holds something; else what is in another one is never taken away.
        flush: Force all of it to the disk before the folder gets its name, and the name after: whole also after a power cut.

    Yields:
        The folder to write into, a hidden sibling, empty.

    Raises:
        FcitError: The folder is there and not empty, and not to be replaced.
        OSError: It cannot be written; what was there before still is.
    """
    folder = folder.resolve()  # `.` has no name of its own
    if not replace:
        check_empty(folder)
    partial, aside = hidden(folder, PARTIAL), hidden(folder, DISCARDED)
    partial.mkdir(parents=True)
    try:
        yield partial
        if flush:
            for path in [*partial.rglob("*"), partial]:
                to_disk(path)
        if folder.exists() and not replace:
            check_empty(folder)  # still
            for path in partial.iterdir():
                path.rename(folder / path.name)
        else:
            if folder.exists():
                folder.rename(aside)
            partial.rename(folder)
        if flush:
            to_disk(folder.parent)
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        for left in (partial, aside):
            shutil.rmtree(left, ignore_errors=True)


def check_file_place(path: Path, name: str) -> None:
    """Check, before the work whose result goes there, that a file can be written.

    Args:
        path: The file, there or not.
        name: The flag or the key that names it.

    Raises:
        FcitError: It is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise FcitError(f"`{name}` {path} is a folder; name a file.")
    check_folder_place(path.parent, name)


def check_folder_place(folder: Path, name: str) -> None:
    """The same of a folder that files are written into, and that is made where it is not there.

    Raises:
        FcitError: It is a file, lies below one, or the user may not write there.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise FcitError(f"`{name}`: {there} is not a folder, so nothing can be written below it; name another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FcitError(f"`{name}`: you may not write into {there}; name another place.")


def hidden(folder: Path, end: str) -> Path:
    """The hidden sibling of a folder for one of these ends; what an earlier writer has left there is taken away."""
    path = folder.with_name(f".{folder.name}{end}")
    if path.exists():
        shutil.rmtree(path)
    return path


def take_away(folder: Path, names: str) -> None:
    """Take away from a folder what a program has left there; what somebody else has put beside it stays.

    Args:
        folder: The folder; it goes, too, if nothing else is in it. A link to one is left alone.
        names: Of the files and folders, a regular expression.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if not re.fullmatch(names, path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_empty(folder: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        FcitError: It is neither, or a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FcitError(f"{folder} is a file; name a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise FcitError(f"{folder} is not empty; name a new folder.")
