"""Finds files inside installed packages that carry models or data, without importing those packages."""

from importlib.util import find_spec
from pathlib import Path


class MissingPackage(ImportError):
    """An optional package of ``fcit-plugin[real]`` is not installed."""

    def __init__(self, distribution: str) -> None:
        super().__init__(f'The package "{distribution}" is missing; install it with: pip install "fcit-plugin[real]"')


def require(module: str, distribution: str) -> None:
    """Checks that a top-level module can be found.

    Args:
        module: Name of the top-level module.
        distribution: Name of the package to install when it is absent.

    Raises:
        MissingPackage: The module is not installed.
    """
    if find_spec(module) is None:
        raise MissingPackage(distribution)


def package_file(module: str, distribution: str, inside: str) -> Path:
    """Returns the path of a file or folder shipped inside a package.

    The package is located, not imported: these packages import far more than their data needs.

    Args:
        module: Name of the top-level module.
        distribution: Name of the package to install when it is absent.
        inside: Path relative to the module's folder.

    Raises:
        MissingPackage: The package is not installed, or it does not hold the file.
    """
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / inside
        if path.exists():
            return path
    raise MissingPackage(distribution)
