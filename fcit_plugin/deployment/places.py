"""Folders of a deployment: whether their names can stand in scripts and recipes, whose they are, and who may change them."""

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import FcitError


def place_of(out: Path) -> Path:
    """A folder's whole name, which stands in scripts, recipes and units.

    Raises:
        FcitError: It has a line break, or something else in it that no text file can hold.
    """
    folder = out.resolve()
    if not str(folder).isprintable():
        raise FcitError(
            f"{str(folder)!a} has a letter in its name that is not UTF-8, or a line break, and stands in recipes and scripts; "
            "name another folder."
        )
    return folder


@contextlib.contextmanager
def for_us_to_change() -> Iterator[None]:
    """Within the block nobody else may write to what is made, whatever the umask: files say whom to trust and what to start."""
    before = os.umask(0o077)
    os.umask(before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def owner() -> str:
    """Who this process runs as: the name, or the number where there is none, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
