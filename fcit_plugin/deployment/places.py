"""Folders of a deployment: whether their names can stand in scripts and recipes, and whose they are."""

import getpass
import os
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


def owner() -> str:
    """Who this process runs as: the name, or the number where there is none, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
