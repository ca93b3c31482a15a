"""The images of records, of which an image that stands in a record itself is decoded only when it is looked at."""

from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset
from typing_extensions import override

from .telling_order import lengths_of

_IMAGES = "_images"


class RecordImages(Sequence[Any]):
    """The images of one record, as LLaMA-Factory takes them: names of files, or images read from the record.

    Args:
        rows: Records in LLaMA-Factory's standard form.
        index: Which one of them.
        length: How many images it has.
    """

    __slots__ = ("_index", "_length", "_rows")

    def __init__(self, rows: Dataset, index: int, length: int) -> None:
        self._rows = rows
        self._index = index
        self._length = length

    def __len__(self) -> int:
        return self._length

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows[self._index][_IMAGES] if self._length else ())

    def __getitem__(self, number):
        return [*self][number]


def numbers_of_media(rows: Dataset, column: str = _IMAGES) -> list[int]:
    """How many images, or other media of a column, each record has; none of them is decoded."""
    batches = rows.select_columns([column]).with_format("arrow").iter(batch_size=1000)  # all might not fit into memory
    return [int(length) for batch in batches for length in lengths_of(batch[column])]


def images_of_records(rows: Dataset) -> list[RecordImages]:
    """The images of each record.

    Args:
        rows: Records in LLaMA-Factory's standard form.
    """
    column = rows.select_columns([_IMAGES])
    return [RecordImages(column, index, length) for index, length in enumerate(numbers_of_media(rows))]
