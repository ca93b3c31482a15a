"""Disk space, against the files that safetensors writes."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as numpy_bytes
from safetensors.torch import save

from fcit_plugin.plan.disk import Disk, tensor_file_bytes

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)


@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from([torch.float32, torch.int64, torch.float64])), max_size=12))
def test_a_tensor_file_is_as_large_as_safetensors_makes_it(kinds):
    metadata = {"format": "pt"}
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in kinds.items()}
    shapes = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in kinds.items()}
    assert tensor_file_bytes(shapes, metadata) == len(save(tensors, metadata))
    arrays = {name: np.zeros(shape, str(dtype).removeprefix("torch.")) for name, (shape, dtype) in kinds.items()}
    assert tensor_file_bytes(arrays) == len(numpy_bytes(arrays))


def test_a_run_holds_the_commits_that_are_kept_and_the_one_that_is_written():
    disk = Disk(commits=(10, 20, 30, 40), kept=2, replies=7, updates=5)
    assert (disk.commit, disk.most) == (40, 20 + 30 + 40 + 40 + 5)
    assert Disk(commits=(10, 20, 30, 40), kept=0, replies=50, updates=0).most == 100 + 50
