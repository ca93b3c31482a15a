"""Disk space of a run: its tensor files, exact from shapes. JSON, pictures and logs beside them are some hundred kilobytes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

#: By NumPy's and PyTorch's names of dtypes those of safetensors with the bytes of a number, in the order of its files.
_DTYPES = {"int64": ("I64", 8), "float64": ("F64", 8), "float32": ("F32", 4)}


def tensor_file_bytes(tensors: Mapping[str, torch.Tensor | np.ndarray], metadata: Mapping[str, str] | None = None) -> int:
    """Bytes of a safetensors file; the tensors may have shapes alone.

    https://github.com/huggingface/safetensors#format: eight bytes, a head in JSON that is filled up to a multiple of eight, and
    the numbers, ordered by their dtype and by name.

    Args:
        tensors: What is in it, by name.
        metadata: What its head says beside that.
    """
    head: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    kinds = {name: _DTYPES[str(tensor.dtype).removeprefix("torch.")] for name, tensor in tensors.items()}
    order, start = [*_DTYPES.values()], 0
    for name in sorted(tensors, key=lambda name: (order.index(kinds[name]), name)):
        (dtype, width), shape = kinds[name], tuple(tensors[name].shape)
        end = start + width * math.prod(shape)
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}
        start = end
    length = len(json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + length + -length % 8 + start


@dataclass(frozen=True)
class Disk:
    """Bytes on disk of one run.

    Attributes:
        commits: Of the commit before the first round, and of that after each round.
        kept: How many commits are kept, 0 for all (``save_total_limit``).
        replies: Of all clients' replies of one round, which are kept until it ends.
        updates: Of the updates that are kept for good (``fcit_keep_client_updates``).
    """

    commits: Sequence[int]
    kept: int
    replies: int
    updates: int

    @property
    def commit(self) -> int:
        """Of the last commit, which is what a finished run leaves in ``output_dir``, too."""
        return self.commits[-1]

    @property
    def most(self) -> int:
        """At most at one time: the commits that are kept with one that is being written, a round's replies, and the results."""
        held = self.commits[-(self.kept + 1) :] if self.kept else self.commits
        return sum(held) + max(self.replies, self.commit) + self.updates

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self) | {"commit": self.commit, "most": self.most}
