"""Packages of strangers: modules and what pip leaves of an installation, in a folder of the path."""

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from fcit_plugin import plugins


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


#: A method with a key of its own.
METHOD = """
from dataclasses import dataclass
from fcit_plugin.arguments.option import Options, option
from fcit_plugin.hookspecs import hookimpl
from fcit_plugin.parts import Part, ServerRule

@dataclass
class Own(Options):
    {key}: {type} = option({default}, "A key of its own.")

@hookimpl
def fcit_methods():
    return {{"{name}": Part("{module}:{name}", Own, {refuses})}}
"""


def method(key="fcit_own", type="float", default="1.5", name="Stranger", module="somebody.code", refuses="{}"):
    """Code of a package with a method."""
    return METHOD.format(key=key, type=type, default=default, name=name, module=module, refuses=refuses)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages for the length of a test."""
    site, before = tmp_path / "site", set(sys.modules)
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def forget():
        importlib.invalidate_caches()
        for cached in (plugins.manager, plugins.registry, plugins.source):
            cached.cache_clear()

    def add(name, code, **more):
        folder = write_package(site, name, code, **more)
        forget()
        return folder

    yield add
    monkeypatch.undo()
    forget()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]
