"""Numbers of Flower's arrays are read without ``np.load``: what they say is compared with what stands beside it."""

import ast
import io
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from lying_arrays import LIES, lying
from runs import ROOT

from fcit_plugin.errors import FcitError
from fcit_plugin.federation.arrays import fault_of, numbers_of

FEDERATION = ROOT / "fcit_plugin" / "federation"
DTYPES = ["bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64"]


@st.composite
def numpys(draw):
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    numbers = np.arange(int(np.prod(shape))).reshape(shape).astype(draw(st.sampled_from(DTYPES)))
    return np.asfortranarray(numbers) if draw(st.booleans()) else numbers


@given(numpys())
def test_numbers_are_those_that_were_put_in(numbers):
    found = numbers_of(Array(numbers))
    assert (found.dtype, found.shape) == (numbers.dtype, numbers.shape)
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("name", LIES)
def test_what_lies_is_refused_before_anything_is_parsed_or_allocated(name):
    array = lying(name)
    tracemalloc.start()
    try:
        with pytest.raises(FcitError, match=r"An array .*Flower's `Array`\.$"):
            numbers_of(array)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


SHAPES = [(2**62, 4), (2**62, 2**62, 0), (-2, -2), (True, 4), (1,) * 33, ("two", "two"), (2.0, 2.0), (10**30,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "object", "V8", "f4,f4", "nonsense", "complex64", "x" * 10_000])
def test_whatever_stands_beside_the_data_the_fault_is_one_short_clause(shape, dtype):
    array = Array(np.zeros((2, 2), np.float32))
    for name, value in {"dtype": dtype, "shape": shape}.items():
        setattr(array, name, value)
    assert len(fault_of(array)) < 100
    with pytest.raises(FcitError):
        numbers_of(array)


@given(st.data())
def test_of_changed_bytes_only_those_of_the_numbers_themselves_are_taken(data):
    array = Array(np.arange(4, dtype=np.float32).reshape(2, 2))
    bytes_ = bytearray(array.data)
    for _ in range(data.draw(st.integers(1, 3))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    array.data = bytes(bytes_)
    if fault_of(array) is None:
        np.testing.assert_array_equal(numbers_of(array), np.load(io.BytesIO(array.data)))
    else:
        assert array.data[:-16] != Array(np.zeros((2, 2), np.float32)).data[:-16]


#: Calls of a method `numpy` in the package's federation, and whose it is.
NUMPY = {
    ("arrays.py", "array.numpy()"): "of an array that makes its numbers itself",
    ("arrays.py", "self.numpy()"): "the same",
    ("reply_parts.py", "array.numpy()"): "the same",
    ("messages.py", "state[key].detach().to('cpu', torch.float32).numpy()"): "of a tensor",
    (
        "compression.py",
        "torch.as_tensor(change).to(torch.bfloat16).contiguous().view(torch.uint16).numpy()",
    ): "of a tensor",
}


def test_no_array_is_read_in_flowers_own_way():
    found = {
        (path.relative_to(FEDERATION).as_posix(), ast.unparse(node))
        for path in FEDERATION.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"numpy", "to_numpy_ndarrays", "to_torch_state_dict"}
    }
    assert found == set(NUMPY)
