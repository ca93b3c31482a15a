"""Tasks and their order in time (docs/guide/settings.md)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import FcitError


@dataclass(frozen=True)
class Task:
    """What one client works on in one stage: one dataset, or several of one capability."""

    name: str
    datasets: tuple[str, ...]


def _listed(names: Iterable[str]) -> str:
    return " ".join(", ".join(map(str, names)).split())  # a name from a recipe may have lines


@dataclass(frozen=True)
class Scenario:
    """Which task each selected client has in each stage.

    A scenario that exists is a valid one: it is checked here, whether it is a setting of the paper or
    comes from the user's YAML.

    Attributes:
        name: name of the setting, `fcit_setting`.
        tasks: the tasks, in the order in which `schedule` counts them.
        schedule: `schedule[t]` holds the task index of the i-th selected client of stage t; with more
            clients than entries the row starts again (i modulo its length). A homogeneous scenario has
            `schedule[t] == (t,)`.
        first_stage: the stage to begin with; those before it belong to an earlier run that this one goes on from.

    Raises:
        FcitError: a task without datasets, with one dataset twice, given twice, or used by no stage; a stage
            without tasks, or with an index that is not a task.
    """

    name: str
    tasks: tuple[Task, ...]
    schedule: tuple[tuple[int, ...], ...]
    first_stage: int = 0

    def __post_init__(self) -> None:
        for index, task in enumerate(self.tasks):
            if not task.datasets:
                raise FcitError(f"fcit_stages: stage {index} is empty; name at least one dataset in it.")
            for dataset in task.datasets:
                if task.datasets.count(dataset) > 1:
                    raise FcitError(f"fcit_stages: stage {index} names {dataset!r} twice; keep it once.")
            first = next(i for i, other in enumerate(self.tasks) if set(other.datasets) == set(task.datasets))
            if first != index:
                raise FcitError(
                    f"fcit_stages: stages {first} and {index} are the same task ({_listed(task.datasets)}); give it"
                    " once, and let it come back with fcit_schedule."
                )

        for stage, row in enumerate(self.schedule):
            if not row:
                raise FcitError(f"fcit_schedule: stage {stage} is empty; give at least one task index in it.")
            for index in row:
                if not 0 <= index < len(self.tasks):
                    raise FcitError(
                        f"fcit_schedule: stage {stage} asks for task {index}, but the {len(self.tasks)} tasks are"
                        f" numbered from 0 to {len(self.tasks) - 1}; correct the index."
                    )

        for index in set(range(len(self.tasks))).difference(*self.schedule):
            raise FcitError(
                f"fcit_schedule: no stage uses task {index} ({_listed(self.tasks[index].datasets)});"
                " give it a place in a stage, or take it out of fcit_stages."
            )
        if not self.schedule:
            raise FcitError("fcit_stages: there is no stage; give at least one list of datasets.")

    @property
    def num_stages(self) -> int:
        """T, the number of stages."""
        return len(self.schedule)

    def task_of(self, stage: int, position: int) -> int:
        """Return the task index of the client selected as number `position` (from 0) in `stage`."""
        row = self.schedule[stage]
        return row[position % len(row)]

    def datasets_of_stage(self, stage: int) -> tuple[str, ...]:
        """Return the datasets whose tasks appear in `stage`, each once, in the order of the schedule."""
        return tuple(dict.fromkeys(name for index in self.schedule[stage] for name in self.tasks[index].datasets))

    def seen_datasets(self, stage: int) -> tuple[str, ...]:
        """Return D_t: the datasets of all stages up to and with `stage`, ordered by first appearance (section 7)."""
        return tuple(dict.fromkeys(name for t in range(stage + 1) for name in self.datasets_of_stage(t)))

    def all_datasets(self) -> tuple[str, ...]:
        """Return every dataset of the scenario, ordered by first appearance."""
        return self.seen_datasets(self.num_stages - 1)

    def datasets_to_train(self) -> tuple[str, ...]:
        """Return the datasets of the stages from `first_stage` on, ordered by first appearance."""
        stages = range(self.first_stage, self.num_stages)
        return tuple(dict.fromkeys(name for t in stages for name in self.datasets_of_stage(t)))

    def tasks_to_train(self) -> tuple[int, ...]:
        """Return the indices of the tasks of the stages from `first_stage` on, in ascending order."""
        return tuple(sorted(set().union(*self.schedule[self.first_stage :])))

    def followed_by(self, other: "Scenario") -> "Scenario":
        """Return this scenario with the stages of another one after its own, to begin with the first of those.

        A task of the other one that has the same datasets as a task of this one is that task come back.
        """
        tasks = list(self.tasks)
        numbers = []
        for task in other.tasks:
            known = next((i for i, own in enumerate(self.tasks) if set(own.datasets) == set(task.datasets)), len(tasks))
            tasks += [task] if known == len(tasks) else []
            numbers.append(known)
        schedule = tuple(tuple(numbers[index] for index in row) for row in other.schedule)
        name = "+".join(dict.fromkeys([*self.name.split("+"), other.name]))
        return Scenario(name, tuple(tasks), self.schedule + schedule, first_stage=self.num_stages)

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as plain JSON values."""
        tasks = [{"name": task.name, "datasets": list(task.datasets)} for task in self.tasks]
        return {"name": self.name, "tasks": tasks, "schedule": [list(row) for row in self.schedule]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scenario":
        """Rebuild it from `to_dict`, also after JSON.

        Raises:
            FcitError: it is no valid scenario.
        """
        try:
            tasks = tuple(Task(str(task["name"]), tuple(map(str, task["datasets"]))) for task in values["tasks"])
            schedule = tuple(tuple(map(int, row)) for row in values["schedule"])
            return cls(str(values["name"]), tasks, schedule)
        except (KeyError, TypeError) as error:
            raise FcitError(f"The stages of the earlier run cannot be read: {error!r}.") from error
