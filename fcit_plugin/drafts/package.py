"""The beginning of a package that extends the plugin: a method with a key of its own, and tests that pass."""

import re
from pathlib import Path
from string import Template

from .. import __version__
from ..errors import FcitError
from ..files import read_text, write_text
from ..folders import check_empty, whole_folder
from ..plugins import registry

_TEMPLATE = Path(__file__).parent / "package_template"
#: Where each file of the template goes.
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "__init__.py.txt": "{module}/__init__.py",
    "parts.py.txt": "{module}/parts.py",
    "method.py.txt": "{module}/method.py",
    "test_method.py.txt": "tests/test_{method}.py",
}


def write_package(name: str, folder: Path | None = None) -> Path:
    """Write a package with a continual method.

    Args:
        name: The method's name; the package is called ``fcit-<name>``.
        folder: Where to, default: a folder of that name here.

    Returns:
        The folder.

    Raises:
        FcitError: The name is none, or taken, or the folder is not empty.
    """
    method = name.removeprefix("fcit-").replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", method):
        raise FcitError(f"`--plugin {name}`: a name has small letters, digits and hyphens, such as gentle-pull.")
    if method in registry("methods"):
        raise FcitError(f"`--plugin {name}`: there is a method {method} already; take another name.")
    words = {
        "distribution": f"fcit-{method.replace('_', '-')}",
        "module": f"fcit_{method}",
        "method": method,
        "class_name": "".join(part.capitalize() for part in method.split("_")),
        "key": f"fcit_{method}_strength",
        "version": __version__,
    }
    folder = folder or Path(words["distribution"])
    check_empty(folder)
    with whole_folder(folder) as partial:
        for source, to in _FILES.items():
            path = partial / to.format(**words)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, Template(read_text(_TEMPLATE / source)).substitute(words))
    return folder
