"""Our safetensors files, byte for byte against those of the library."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as numpy_bytes
from safetensors.torch import save

from fcit_plugin.tensor_files import _DTYPES, tensor_chunks, tensor_file_bytes

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)


@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from([*_DTYPES])), max_size=12), st.booleans())
def test_a_file_is_the_librarys_and_its_size_is_known_from_shapes(kinds, described):
    metadata = {"format": "pt"} if described else None
    tensors, shapes = {}, {}
    for name, (shape, dtype) in kinds.items():
        tensors[name] = torch.arange(int(np.prod(shape))).reshape(shape).to(getattr(torch, dtype))
        shapes[name] = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
    expected = save(tensors, metadata)
    assert b"".join(tensor_chunks(tensors, metadata)) == expected
    assert tensor_file_bytes(shapes, metadata) == tensor_file_bytes(tensors, metadata) == len(expected)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor.dtype != torch.bfloat16}
    assert b"".join(tensor_chunks(arrays, metadata)) == numpy_bytes(arrays, metadata)


def test_tensors_in_another_order_in_memory_keep_their_numbers():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    for other in (np.asfortranarray(rows), torch.from_numpy(rows).T.contiguous().T, rows.astype(">f4")):
        assert b"".join(tensor_chunks({"t": other})) == numpy_bytes({"t": rows})


def test_a_dtype_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match="phase is of dtype complex128, which no safetensors file holds"):
        list(tensor_chunks({"phase": np.zeros(2, np.complex128)}))
