"""Arrays that stay in their file until somebody reads them: a round of many replies does not fill the memory.

Flower's averages take one reply after the other (``aggregate_arrayrecords``), so with these they hold one array at a time.
Rules that compare replies, such as the median or Krum, hold all of them whatever the arrays are.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, RecordDict
from typing_extensions import override

from ..errors import FcitError
from ..files import SOUND_COPY
from ..tensor_files import open_tensors, tensor_chunks
from .arrays import LazyArray, fault_of, numbers_of
from .messages import record_of

#: NumPy's names of what an update is made of (:mod:`.compression`, :mod:`.secure_messages`), by those of safetensors.
_DTYPES = {"F32": "float32", "U16": "uint16", "I8": "int8", "I32": "int32", "I64": "int64"}


class StoredArray(LazyArray):
    """An array of a safetensors file, read each time that its data are asked for.

    What was judged is what is folded: an array whose bytes have changed since they were first read is refused.

    Args:
        path: The file.
        name: The array's name in it.
        shape: Its shape, as the file's head says.
        dtype: Its NumPy dtype, as the file's head says.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(dtype, shape)
        self._path, self._name = path, name
        self._digest: bytes | None = None

    @override
    def numpy(self) -> np.ndarray:
        """The numbers, read again.

        Raises:
            FcitError: The file is gone or has changed since the data were first read.
        """
        try:
            status = self._path.stat()
            values: np.ndarray = _opened(self._path, status.st_ino, status.st_mtime_ns).get_tensor(self._name)
        except OSError as error:
            raise FcitError(f"{self._path} cannot be read any more ({error.strerror}).") from error
        digest = hashlib.sha256(f"{values.dtype}{values.shape}".encode() + b"\0")
        digest.update(values.reshape(-1).data)
        if self._digest not in (None, digest.digest()):
            raise FcitError(f"{self._path} has changed while the round went on; restore it from a backup or copy it again.")
        self._digest = digest.digest()
        return values

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Other processes may not have the file: they get a plain array."""
        return Array, (self.dtype, self.shape, self.stype, self.data)


@functools.lru_cache(maxsize=8)  # of a layer the factors of several clients are read in turn
def _opened(path: Path, inode: int, changed: int) -> Any:
    return open_tensors(path)


def close_files() -> None:
    """Let go of the files that arrays were read from: what is deleted while it is open keeps its place on the disk."""
    _opened.cache_clear()


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a safetensors file, by name; only its head is read.

    Raises:
        FcitError: The file is missing or corrupt, or an array is of a dtype that no update has.
    """
    with open_tensors(path) as file:
        found = {}
        for name in file.keys():  # noqa: SIM118  # the file is no dictionary
            entry = file.get_slice(name)
            if entry.get_dtype() not in _DTYPES:
                raise FcitError(f"{path}: {name[:200]} is of dtype {entry.get_dtype()}, not {' or '.join(_DTYPES)}.")
            found[name] = StoredArray(path, name, tuple(entry.get_shape()), _DTYPES[entry.get_dtype()])
        return found


def stored_records(path: Path) -> RecordDict:
    """The array records that :func:`records_bytes` made a file of, left in it.

    Raises:
        FcitError: An array is of a wrong name or dtype.
    """
    records: dict[str, dict[str, Array]] = {}
    for name, array in sorted(stored_arrays(path).items()):
        record, _, key = name.partition("/")
        if not key:
            raise FcitError(f"{path} has an array {name[:200]!r}, which is of no record; {SOUND_COPY}.")
        records.setdefault(record, {})[key] = array
    return RecordDict({name: record_of(arrays) for name, arrays in records.items()})


def records_chunks(content: RecordDict) -> Iterator[bytes | memoryview]:
    """The array records as a safetensors file, each array by ``record/key``.

    Raises:
        FcitError: An array is not what it says, or of a dtype that no update has; the sentence names it.
    """
    arrays = {f"{name}/{key}": array for name, record in content.array_records.items() for key, array in record.items()}
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise FcitError(f"{name[:200]} is of dtype {array.dtype[:40]!r}, not {' or '.join(_DTYPES.values())}.")
        if (fault := fault_of(array)) is not None:
            raise FcitError(f"{name[:200]} {fault}.")
    return tensor_chunks({name: numbers_of(array) for name, array in arrays.items()})


def records_bytes(content: RecordDict) -> bytes:
    """The same in one piece."""
    return b"".join(records_chunks(content))
