"""Packages of strangers: modules and what pip leaves of an installation, in a folder of the path."""

from pathlib import Path
from textwrap import dedent


def write_package(
    site: Path, name: str, code: str, modules: dict[str, str] | None = None, plugin: str | None = None, entry: str | None = None
) -> Path:
    """Write a package as an installation leaves it.

    Args:
        site: A folder of the path.
        name: Of the distribution, and of its package.
        code: Of the package itself.
        modules: Code of modules in it, by name.
        plugin: Name of its entry point, default: that of the distribution.
        entry: What the entry point names, default: the package.

    Returns:
        The folder of the package.
    """
    folder, info = site / name, site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fcit_plugin]\n{plugin or name} = {entry or name}\n")
    folder.mkdir()
    for module, text in {"__init__": code, **(modules or {})}.items():
        (folder / f"{module}.py").write_text(dedent(text), encoding="utf-8")
    return folder


def line_of(file: Path, text: str) -> str:
    """Where a text stands in a file, as ``file:line``."""
    (number,) = [n for n, line in enumerate(file.read_text().splitlines(), start=1) if text in line]
    return f"{file}:{number}"
