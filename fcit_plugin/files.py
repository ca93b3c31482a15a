"""Writing files and folders so that they are there whole or not at all; no torch, so that a look is quick."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import FcitError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block a file is written; what goes wrong, such as a full disk, names it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; its folder is made where it is not there."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file; its folder is made where it is not there."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Within the block a folder is filled under another name; it takes its own when the block has ended well.

    Args:
        folder: The folder to make, new or empty; what is in another one is never taken away.

    Yields:
        The folder to write into, a hidden sibling, empty.

    Raises:
        FcitError: The folder is there and not empty.
    """
    check_empty(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        FcitError: It is neither.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FcitError(f"{folder} is not empty; name a new folder.")
