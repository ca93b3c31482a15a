"""Tasks and their order in time (spec, sections 1 and 5)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What one client works on in one stage: one data set, or several of one capability."""

    name: str
    datasets: tuple[str, ...]


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

    Raises:
        ValueError: a task without data sets, with one data set twice, given twice, or used by no stage; a stage
            without tasks, or with an index that is no task.
    """

    name: str
    tasks: tuple[Task, ...]
    schedule: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for index, task in enumerate(self.tasks):
            if not task.datasets:
                raise ValueError(f"fcit_stages: stage {index} is empty; name at least one data set in it.")
            for dataset in task.datasets:
                if task.datasets.count(dataset) > 1:
                    raise ValueError(f"fcit_stages: stage {index} names {dataset!r} twice; keep it once.")
            first = next(i for i, other in enumerate(self.tasks) if set(other.datasets) == set(task.datasets))
            if first != index:
                raise ValueError(
                    f"fcit_stages: stages {first} and {index} are the same task ({', '.join(task.datasets)}); give it"
                    " once, and let it come back with fcit_schedule."
                )

        for stage, row in enumerate(self.schedule):
            if not row:
                raise ValueError(f"fcit_schedule: stage {stage} is empty; give at least one task index in it.")
            for index in row:
                if not 0 <= index < len(self.tasks):
                    raise ValueError(
                        f"fcit_schedule: stage {stage} asks for task {index}, but the {len(self.tasks)} tasks are"
                        f" numbered from 0 to {len(self.tasks) - 1}; correct the index."
                    )

        for index in set(range(len(self.tasks))).difference(*self.schedule):
            raise ValueError(
                f"fcit_schedule: no stage uses task {index} ({', '.join(self.tasks[index].datasets)});"
                " give it a place in a stage, or take it out of fcit_stages."
            )
        if not self.schedule:
            raise ValueError("fcit_stages: there is no stage; give at least one list of data sets.")

    @property
    def num_stages(self) -> int:
        """T, the number of stages."""
        return len(self.schedule)

    def task_of(self, stage: int, position: int) -> int:
        """Return the task index of the client selected as number `position` (from 0) in `stage`."""
        row = self.schedule[stage]
        return row[position % len(row)]

    def datasets_of_stage(self, stage: int) -> tuple[str, ...]:
        """Return the data sets whose tasks appear in `stage`, each once, in the order of the schedule."""
        return tuple(dict.fromkeys(name for index in self.schedule[stage] for name in self.tasks[index].datasets))

    def seen_datasets(self, stage: int) -> tuple[str, ...]:
        """Return D_t: the data sets of all stages up to and with `stage`, ordered by first appearance (section 7)."""
        return tuple(dict.fromkeys(name for t in range(stage + 1) for name in self.datasets_of_stage(t)))

    def all_datasets(self) -> tuple[str, ...]:
        """Return every data set of the scenario, ordered by first appearance."""
        return self.seen_datasets(self.num_stages - 1)
