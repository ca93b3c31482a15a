"""Ways to spoil a safetensors file."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hostile_files import KEYS, VALUES, Done, Spoil
from hostile_json import dump, other_value, places


def _head_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_head(path: Path, head: str, data: bytes) -> None:
    raw = head.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def _length(path: Path, rng: Random) -> Done:
    content, length = path.read_bytes(), rng.choice([0, 1, 2**20, 2**32, 2**40, 2**63, 2**64 - 1])
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    return Done(f"a head of {length} bytes", True, readable=True)


def _head(change: Callable[[dict[str, Any], Random], str], refused: bool = False) -> Spoil:
    def spoil(path: Path, rng: Random) -> Done:
        head, data = _head_of(path)
        what = change(head, rng)
        _with_head(path, dump(head), data)
        return Done(what, refused, readable=True)

    return spoil


def _a_tensor(head: dict[str, Any], rng: Random) -> str:
    return rng.choice(sorted(name for name in head if name != "__metadata__"))


def _head_value(head: dict[str, Any], rng: Random) -> str:
    return f"head: {other_value(head, rng.choice(list(places(head))), rng).what}"


def _tensor_name(head: dict[str, Any], rng: Random) -> str:
    name, other = _a_tensor(head, rng), rng.choice(KEYS)
    head[other] = head.pop(name)
    return f"tensor {name} is {other[:20]!r}"


def _dtype(head: dict[str, Any], rng: Random) -> str:
    name, dtype = (
        _a_tensor(head, rng),
        rng.choice(["I32", "U32", "F16", "BF16", "F64", "I64", "I8", "BOOL", "F8_E4M3", "C64", "X"]),
    )
    head[name]["dtype"] = dtype
    return f"{name} is of {dtype}"


def _dtype_and_shape(head: dict[str, Any], rng: Random) -> str:
    """Another dtype of the same bytes."""
    name = _a_tensor(head, rng)
    dtype, size = rng.choice([("F16", 2), ("BF16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1)])
    start, end = head[name]["data_offsets"]
    head[name] |= {"dtype": dtype, "shape": [(end - start) // size]}
    return f"{name} is {(end - start) // size} numbers of {dtype}"


def _shape(head: dict[str, Any], rng: Random) -> str:
    name = _a_tensor(head, rng)
    shape = head[name]["shape"]
    head[name]["shape"] = rng.choice([[], [0], shape[::-1], [1, *shape], [2**32, 2**32], [10**9] * 2, [*shape, 0]])
    return f"{name} is of shape {head[name]['shape']}"


def _offsets(head: dict[str, Any], rng: Random) -> str:
    name = _a_tensor(head, rng)
    start, end = head[name]["data_offsets"]
    head[name]["data_offsets"] = rng.choice([[end, start], [0, 0], [start, end + 8], [2**63, 2**63 + end - start], [start], []])
    return f"{name} is at {head[name]['data_offsets']}"


def _no_tensors(head: dict[str, Any], rng: Random) -> str:
    head.clear()
    return "no tensors"


def _numbers(path: Path, rng: Random) -> Done:
    """Numbers that are none, or larger than all."""
    head, data = _head_of(path)
    number = rng.choice(
        [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f", b"\xff\xff\xff\x7f"]
    )
    at = rng.randrange(max(len(data) // 4, 1)) * 4
    _with_head(path, json.dumps(head), data[:at] + number * (len(data[at : at + 4]) // 4) + data[at + 4 :])
    return Done(f"a number at byte {at} is {number!r}", readable=True)


TENSOR_FILE: dict[str, Spoil] = {
    "head's length": _length,
    "head's value": _head(_head_value),
    "tensor's name": _head(_tensor_name),
    "tensor's dtype": _head(_dtype),
    "tensor's dtype and shape": _head(_dtype_and_shape),
    "tensor's shape": _head(_shape),
    "tensor's place": _head(_offsets),
    "no tensors": _head(_no_tensors),
    "metadata": _head(lambda head, rng: head.__setitem__("__metadata__", rng.choice(VALUES[:30])) or "metadata"),
    "numbers": _numbers,
}
