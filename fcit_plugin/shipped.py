"""Finds what comes with the plugin for people to read: the folders ``recipes`` and ``dataset_info``."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """The path of a folder that is at the top of a checkout, and in the package once it is built (``setup.py``).

    Args:
        folder: ``recipes`` or ``dataset_info``.
    """
    built = PACKAGE / folder
    return built if built.is_dir() else PACKAGE.parent / folder


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the plugin, by name: without ``.yaml``, with the folder that they are in."""
    root = shipped("recipes")
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"), key=_order)}


def _order(path: Path) -> tuple[int, str]:
    return len(path.parts), path.name
