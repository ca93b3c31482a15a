"""Finds the folders that come with the plugin for people to read: ``recipes`` and ``dataset_info``."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """The path of a folder that is at the top of a checkout, and in the package once it is built (``setup.py``).

    Args:
        folder: ``recipes`` or ``dataset_info``.
    """
    built = PACKAGE / folder
    return built if built.is_dir() else PACKAGE.parent / folder
