"""Reads Fashion-MNIST from Debian's package ``dataset-fashion-mnist`` or from a folder."""

import gzip
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import read_bytes

if TYPE_CHECKING:
    import numpy

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("usr/share/datasets/fashion-mnist")
ELSEWHERE = "Give a folder that holds the four *-ubyte.gz files of Fashion-MNIST, or 'none' to go without."

Labeled = tuple["numpy.ndarray", "numpy.ndarray"]


def read_fashion(where: str) -> tuple[Labeled, Labeled]:
    """Returns the training and the test half, each as images [n, 28, 28] and labels [n].

    Args:
        where: ``debian``, or a folder with the four files.

    Raises:
        OSError: The Debian package cannot be fetched, or the folder lacks a file.
    """
    if where != "debian":
        return _read(Path(where))
    if (Path("/") / INSTALLED).is_dir():
        return _read(Path("/") / INSTALLED)
    with tempfile.TemporaryDirectory() as scratch:
        _fetch(Path(scratch))
        return _read(Path(scratch) / INSTALLED)


def _fetch(folder: Path) -> None:
    """Downloads the Debian package into a folder and unpacks it there; nothing is installed."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise OSError(f"Fashion-MNIST comes from Debian's package {PACKAGE}, but {tool} is not there. {ELSEWHERE}")
    _run(["apt-get", "download", PACKAGE], folder)
    archive = next(folder.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg-deb", "-x", archive.name, "."], folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OSError(f"'{' '.join(command)}' failed: {reason} (does 'apt-get update' help?) {ELSEWHERE}")


def _read(folder: Path) -> tuple[Labeled, Labeled]:
    import numpy

    halves = []
    for prefix in ("train", "t10k"):
        labels = numpy.frombuffer(_unzip(folder / f"{prefix}-labels-idx1-ubyte.gz"), "uint8", offset=8)
        pixels = numpy.frombuffer(_unzip(folder / f"{prefix}-images-idx3-ubyte.gz"), "uint8", offset=16)
        halves.append((pixels.reshape(len(labels), 28, 28), labels))
    return halves[0], halves[1]


def _unzip(path: Path) -> bytes:
    if not path.is_file():
        raise OSError(f"{path} is missing. {ELSEWHERE}")
    return gzip.decompress(read_bytes(path))
