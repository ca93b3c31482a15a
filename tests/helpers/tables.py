"""Training records that stand in memory: what the partitions of scenario are tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcit_plugin.scenario import Records, Scenario, Task


@dataclass(frozen=True)
class Table:
    """A :class:`fcit_plugin.scenario.Source` of given records, by dataset; an answer stands under "answer"."""

    data: Mapping[str, Sequence[Mapping[str, Any]]]

    def count(self, dataset: str) -> int:
        return len(self.data[dataset])

    def labels(self, dataset: str) -> list[str]:
        return self.column(dataset, "answer")

    def column(self, dataset: str, name: str) -> list[Any]:
        return [record[name] for record in self.data[dataset]]


@dataclass(frozen=True)
class Counts:
    """A source that knows numbers of records and nothing else."""

    data: Mapping[str, int]

    def count(self, dataset: str) -> int:
        return self.data[dataset]


def one_task(**data: Any) -> Records:
    """The records of a setting of one task that pools the given datasets: each a number, or a list of records."""
    scenario = Scenario("custom", (Task("pool", tuple(data)),), ((0,),))
    source = Counts(data) if all(isinstance(value, int) for value in data.values()) else Table(data)
    return Records(scenario, 0, source)


def answers(labels: Sequence[str]) -> Records:
    """A task of one dataset with these answers."""
    return one_task(a=[{"answer": label} for label in labels])
