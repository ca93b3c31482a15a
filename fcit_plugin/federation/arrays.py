"""Flower's arrays without needless copies: a round of a large model has hundreds of megabytes of them.

Flower keeps an array as the bytes of a NumPy file. To look at its numbers these need not be copied, to know their size they
need not be there, and bytes that did not change need not be hashed again.

Flower's own way to the numbers is ``np.load``, which parses and allocates whatever the bytes say. Here they are compared with
what NumPy writes for the dtype and the shape beside them, and nothing is parsed. So the numbers of every array are read by
:func:`numbers_of`, whoever has sent it.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from flwr.app import Array

from ..errors import FcitError

#: NumPy's file format, by Flower's name.
NUMPY = Array(np.zeros(0, np.float32)).stype
#: NumPy's names of what an array may be of: plain numbers, each of its own bytes.
_DTYPES = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float16", "float32", "float64"}
#: Dimensions that an array may have, and the largest product of them and its numbers' bytes: every NumPy takes these.
_MOST_DIMENSIONS, _LARGEST = 32, 2**63 - 1
#: The orders in which NumPy writes numbers.
_ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")
#: Where an array keeps the digest of its data, and these very data beside it.
_DIGEST = "_fcit_digest"
#: Numbers whose change is computed at a time: few enough to stay in the processor's cache.
_BLOCK = 2**16


class LazyArray(Array):
    """An array whose numbers are made each time that they are asked for; its dtype and shape are known before."""

    dtype: str
    shape: tuple[int, ...]
    stype: str

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.stype = dtype, shape, NUMPY

    def numpy(self) -> np.ndarray:
        """The numbers, a new array of this dtype and shape."""
        raise NotImplementedError

    @property
    def data(self) -> bytes:  # type: ignore[override]  # Flower's is a field, and nobody sets this one
        """The array in NumPy's format."""
        return Array(self.numpy()).data


def num_bytes_of(array: Array) -> int:
    """Bytes of an array's data; nothing is made or read for that."""
    if isinstance(array, LazyArray):
        return len(array_header(array.shape, array.dtype)) + np.dtype(array.dtype).itemsize * math.prod(array.shape)
    return len(array.data)


def numbers_of(array: Array) -> np.ndarray:
    """The numbers of an array, to be read only: those that are there already are not copied.

    Raises:
        FcitError: Its data are not those of an array of its dtype and shape (:func:`fault_of`).
    """
    if isinstance(array, LazyArray):
        return array.numpy()
    if (fault := fault_of(array)) is not None:
        raise FcitError(f"An array {fault}; whoever sends it has to make it by Flower's `Array`.")
    header, order = _head_of(array)
    return np.frombuffer(array.data, array.dtype, offset=len(header)).reshape(array.shape, order=order)


def fault_of(array: Array) -> str | None:
    """What is wrong with an array, of it as "it", None where its numbers can be read.

    Its head is compared and its length counted; nothing is parsed, computed or allocated on the word of whoever sent it.
    """
    if isinstance(array, LazyArray):
        return None  # whoever made it knows
    if array.dtype not in _DTYPES:
        return f"is of dtype {array.dtype[:40]!r}, which no array of ours is"
    shape, width = array.shape, np.dtype(array.dtype).itemsize
    if len(shape) > _MOST_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        return "has a shape that no array has"
    if width * math.prod(max(size, 1) for size in shape) > _LARGEST:
        return "has a shape that no array has"
    header, _ = _head_of(array)
    if array.stype != NUMPY or not header:
        return "is no array of that shape in NumPy's format"
    length = len(header) + width * math.prod(shape)
    return None if len(array.data) == length else f"has {len(array.data)} bytes, not {length}"


def _head_of(array: Array) -> tuple[bytes, Literal["C", "F"]]:
    """What the data of an array begin with, if it is what NumPy writes for it; nothing if not. And the order of the numbers."""
    for order in _ORDERS:
        header = array_header(array.shape, array.dtype, order == "F")
        if array.data.startswith(header):
            return header, order
    return b"", "C"


def digest_of(array: Array) -> bytes:
    """SHA-256 of an array's data; a request's weights go to many clients, and are hashed for the first one alone."""
    if isinstance(array, LazyArray):
        return hashlib.sha256(array.data).digest()
    data: bytes | None
    digest: bytes
    data, digest = vars(array).get(_DIGEST, (None, b""))
    if data is not array.data:  # bytes do not change, but an array can get others
        digest = hashlib.sha256(array.data).digest()
        vars(array)[_DIGEST] = (array.data, digest)
    return digest


@np.errstate(invalid="ignore")
def squared_distance(after: np.ndarray, before: np.ndarray) -> float:
    """The squared norm of a difference, in float64, block by block: no whole array in float64 is made.

    It is finite if all numbers of both arrays are.
    """
    ends, starts = after.reshape(-1), before.reshape(-1)
    return _sum_of_squares(len(ends), lambda block: np.subtract(ends[block], starts[block], dtype=np.float64))


def squared_norm(values: np.ndarray) -> float:
    """The squared norm of an array, in float64, as :func:`squared_distance` is that of a difference."""
    numbers = values.reshape(-1)
    return _sum_of_squares(len(numbers), lambda block: numbers[block].astype(np.float64))


def _sum_of_squares(count: int, numbers: Callable[[slice], np.ndarray]) -> float:
    """Of so many numbers, given in float64 by block."""
    total = 0.0
    for start in range(0, count, _BLOCK):
        block = numbers(slice(start, start + _BLOCK))
        total += float(block @ block)
    return total


def array_header(shape: Sequence[int], dtype: str = "float32", fortran_order: bool = False) -> bytes:
    """What an array in a message begins with before its numbers: the head of NumPy's file format."""
    return _header(tuple(shape), dtype, fortran_order)


@functools.lru_cache(maxsize=4096)
def _header(shape: tuple[int, ...], dtype: str, fortran_order: bool) -> bytes:
    stream, descr = BytesIO(), np.dtype(dtype).newbyteorder("<").str
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": fortran_order, "shape": shape})
    return stream.getvalue()
