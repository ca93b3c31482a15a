"""Safetensors files: written without a second copy of what is in them, their size before there is anything to write, and read.

safetensors' own ``save`` makes two copies of a file in memory, which for a 7B's replies is a fifth of what the server does in a
round; its ``save_file`` makes a file that only its owner may read, and tells of a full disk as of a corrupt file. The format:
https://github.com/huggingface/safetensors#format. Reading is the library's. No torch here.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .errors import FcitError, one_line
from .files import SOUND_COPY, check_regular

#: By NumPy's and PyTorch's names of dtypes those of safetensors with the bytes of a number, in the order of its files.
_DTYPES = {
    "uint64": ("U64", 8), "int64": ("I64", 8), "float64": ("F64", 8), "float32": ("F32", 4), "uint32": ("U32", 4),
    "int32": ("I32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2), "uint16": ("U16", 2), "int16": ("I16", 2),
    "int8": ("I8", 1), "uint8": ("U8", 1), "bool": ("BOOL", 1),
}  # fmt: skip
_ORDER = [*_DTYPES]
#: What the tensors of a state may be of, by what they become.
_OF_A_STATE = {"np": {"F64", "F32", "F16", "I64", "I32", "I8", "U8", "BOOL"}}
_OF_A_STATE["pt"] = {*_OF_A_STATE["np"], "BF16"}


def tensor_chunks(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, piece by piece: those of a tensor are its own memory where they can be.

    Args:
        tensors: What is in it, by name: arrays of NumPy, or tensors of PyTorch.
        metadata: What its head says beside that.

    Raises:
        FcitError: A tensor is of a dtype that such files do not have.
    """
    head, order = _head(tensors, metadata)
    yield head
    for name in order:
        yield _bytes(tensors[name])


def tensor_file_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> int:
    """How many bytes :func:`tensor_chunks` has in all; the tensors may have shapes alone."""
    head, _ = _head(tensors, metadata)
    return len(head) + sum(_size(tensor) for tensor in tensors.values())


def _head(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None) -> tuple[bytes, list[str]]:
    """What a file begins with, and the names of its tensors in their order."""
    head: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    for name, tensor in tensors.items():
        if _dtype(tensor) not in _DTYPES:
            raise FcitError(f"{name} is of dtype {_dtype(tensor)}, which no safetensors file holds; make it float32.")
    order, start = sorted(tensors, key=lambda name: (_ORDER.index(_dtype(tensors[name])), name)), 0
    for name in order:
        end = start + _size(tensors[name])
        head[name] = {
            "dtype": _DTYPES[_dtype(tensors[name])][0],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype)).removeprefix("torch.")


def _size(tensor: Any) -> int:
    return _DTYPES[_dtype(tensor)][1] * math.prod(tensor.shape)


def _bytes(tensor: Any) -> bytes | memoryview:
    if isinstance(tensor, np.ndarray):
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        return little.reshape(-1).view(np.uint8).data
    import torch

    found: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return found


def open_tensors(path: Path, framework: str = "np", most: int | None = None) -> Any:
    """A safetensors file, opened: its head is read, its tensors are when they are asked for.

    Args:
        path: The file.
        framework: What its tensors become: "np" arrays of NumPy, "pt" tensors of PyTorch.
        most: Bytes that it may have; None for any number.

    Returns:
        A :class:`safetensors.safe_open`, which can be a context.

    Raises:
        FcitError: The file is missing, cut off or not a safetensors file; the sentence names it.
    """
    try:
        check_regular(path, most)
        return safe_open(path, framework=framework)
    except (OSError, SafetensorError) as error:
        raise FcitError(f"{path} is missing or corrupt: {one_line(error)[:300]}; {SOUND_COPY}.") from error


def check_tensors(path: Path, most: int | None = None) -> None:
    """Refuse a safetensors file that is missing, cut off or none, by its head.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number.

    Raises:
        FcitError: The sentence names it.
    """
    with open_tensors(path, most=most):
        pass


def load_tensors(path: Path, framework: str = "pt") -> dict[str, Any]:
    """All tensors of a safetensors file by name, in the arrays of a framework as for :func:`open_tensors`.

    Raises:
        FcitError: The file is missing or corrupt, or has numbers that one cannot reckon with; the sentence names it.
    """
    found = {}
    with open_tensors(path, framework) as file:
        for name in file.keys():  # noqa: SIM118  # it is no dictionary
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _OF_A_STATE[framework]:
                raise FcitError(f"{path} has {name[:200]} of dtype {dtype}, which is none of a state's; {SOUND_COPY}.")
            found[name] = file.get_tensor(name)
    return found
