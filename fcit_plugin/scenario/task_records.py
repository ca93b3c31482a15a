"""What a partitioner may see of the records of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..errors import FcitError
from .tasks import Scenario


class Source(Protocol):
    """Reads training records: LLaMA-Factory's pipeline in a run, the files alone in ``fcit-cli data partition``."""

    def count(self, dataset: str) -> int:
        """Number of training records of a dataset."""
        ...

    def labels(self, dataset: str) -> Sequence[str]:
        """The answer of each record."""
        ...

    def column(self, dataset: str, name: str) -> Sequence[Any]:
        """One column of the raw records, as they stand in the dataset's file."""
        ...


@dataclass(frozen=True)
class Records:
    """The training records of one task, those of its datasets one after the other.

    Nothing is read before it is asked for: a partition by size needs the counts alone.

    Attributes:
        scenario: The setting.
        task: Number of the task in it, from 0.
        source: Where the records are read.
    """

    scenario: Scenario
    task: int
    source: Source

    def __len__(self) -> int:
        return sum(self.sizes.values())

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.scenario.tasks[self.task].name

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Number of records of each dataset, in the order of the records."""
        return {dataset: self.source.count(dataset) for dataset in self.scenario.tasks[self.task].datasets}

    def datasets(self) -> np.ndarray:
        """Which dataset of the task each record is from, int64 [n], counted from 0."""
        return np.repeat(np.arange(len(self.sizes)), list(self.sizes.values()))

    def labels(self) -> list[str]:
        """The answer of each record."""
        return [label for dataset in self.sizes for label in self.source.labels(dataset)]

    def column(self, name: str) -> list[Any]:
        """One column of the raw records."""
        return [value for dataset in self.sizes for value in self.source.column(dataset, name)]

    def column_everywhere(self, name: str) -> dict[str, Sequence[Any]]:
        """The same column of all datasets to be trained, by dataset: who is a client does not depend on the task."""
        return {dataset: self.source.column(dataset, name) for dataset in self.scenario.datasets_to_train()}

    def clients_named(self, column: str) -> list[Any]:
        """The clients that a column names over the whole setting, see :func:`clients_named`."""
        return clients_named(column, self.column_everywhere(column))


def clients_named(column: str, values_of: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The clients that a column names, by their numbers: in the order of their names.

    Args:
        column: The column.
        values_of: What each record has in it, by dataset.

    Raises:
        FcitError: A record names nobody, or some names are numbers and others are not.
    """
    names = set[Any]()
    for dataset, values in values_of.items():
        others = [(index, value) for index, value in enumerate(values) if not isinstance(value, (str, int))]
        if others:
            # in a CSV file one empty field makes fractions of all whole numbers: the empty one is to be mended
            index, value = next((each for each in others if each[1] is None or each[1] != each[1]), others[0])
            what = "which is empty" if value is None or value != value else f"it has {value!r}"
            raise FcitError(
                f"fcit_partition: natural: record {index} of the dataset {dataset}, counted without those that are not trained "
                f"on, names no client in the column {column!r} (fcit_partition_column), {what}; fix the file."
            )
        names.update(values)
    if len({type(name) for name in names}) > 1:
        raise FcitError(f"The column {column!r} (fcit_partition_column) has numbers and texts; make them all one.")
    return sorted(names)
