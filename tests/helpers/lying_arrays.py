"""Data of arrays that say something else than what stands beside them, of 2 x 2 float32 numbers; each once ended a server."""

import struct

import numpy as np
from flwr.app import Array


def npy(head: str, numbers: bytes = b"") -> bytes:
    """A file of NumPy's format, version 1.0, with any head."""
    text = head.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + numbers


def of_shape(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


#: What np.load makes of each: an error of one kind or another, gigabytes of memory, or other numbers.
LIES = {
    "petabytes": npy(of_shape("(1000000000000000,)")),
    "a shape of more than 64 bits": npy(of_shape("(10000000000000000000000000,)")),
    "many numbers of no bytes": npy(of_shape("(1000000000000,)", "'|S0'")),
    "a head that ends too early": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),
    "a head that is indented wrongly": npy("{'descr':\n  1L\n 2"),
    "a head of brackets": npy("(" * 9000),
    "a head of minus signs": npy("-" * 9000 + "1"),
    "fewer than no numbers": npy(of_shape("(-5,)")),
    "a type that is a list": npy(of_shape("(1,)", "['a']"), bytes(100)),
    "a type of huge arrays": npy(of_shape("(1,)", "('<f4', (100000, 100000, 100000))"), bytes(100)),
    "a shape of truth values": npy(of_shape("(True,)"), bytes(4)),
    "times": npy(of_shape("(1,)", "'<M8[s]'"), bytes(8)),
    "bytes without a meaning": npy(of_shape("(1,)", "'|V8'"), bytes(8)),
    "Python objects": npy(of_shape("(2, 2)", "'|O'"), bytes(32)),
    "an archive": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
    "a number too few": Array(np.zeros((2, 2), np.float32)).data[:-4],
    "a byte too many": Array(np.zeros((2, 2), np.float32)).data + b"\0",
}


def lying(name: str) -> Array:
    """An array that says that it is of 2 x 2 float32 numbers."""
    return Array("float32", (2, 2), "numpy.ndarray", LIES[name])
