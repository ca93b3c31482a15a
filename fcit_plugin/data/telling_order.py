"""An order of records in which the first ones tell the types of all.

What the package ``datasets`` makes of records has the types of the first of them, and what only a later one has fits none:
an image behind a thousand texts, a system prompt, a tool.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset, config
from pyarrow.compute import is_valid, list_value_length

#: Attribute of LLaMA-Factory's ``DatasetAttr`` of a dataset whose records are brought into such an order first.
TELLING = "fcit_telling"

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def lengths_of(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """How much stands in each value of a column, without decoding it: that many of a list, of anything else one or none."""
    if any(is_kind(values.type) for is_kind in _LISTS):
        return np.asarray(list_value_length(values).fill_null(0))
    return np.asarray(is_valid(values), dtype=np.int64)


def telling_order(rows: Dataset, columns: Sequence[str] | None = None) -> np.ndarray | None:
    """The order of records that begins with the first that has something in each column.

    Args:
        rows: The records.
        columns: Those that matter; None for all.

    Returns:
        Indices, int64; None where the records as they stand tell all.
    """
    looked_at = config.DEFAULT_MAX_BATCH_SIZE
    if len(rows) <= looked_at:
        return None
    missing, late, begin = [*(rows.column_names if columns is None else columns)], set[int](), 0
    while missing and begin < len(rows):
        batch = rows.select(range(begin, min(begin + looked_at, len(rows)))).select_columns(missing).with_format("arrow")[:]
        for name in [*missing]:
            there = np.flatnonzero(lengths_of(batch[name]))
            if len(there):
                missing.remove(name)
                late |= {begin + int(there[0])} if begin else set()
        begin += looked_at
    return np.concatenate([sorted(late), np.delete(np.arange(len(rows)), sorted(late))]) if late else None
